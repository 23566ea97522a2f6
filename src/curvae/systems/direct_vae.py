"""The variational autoencoder of discrete latents, by direct optimization through argmax."""

from torch import nn

from curvae.inference import AmortizedCategorical, AmortizedPairwise
from curvae.likelihoods import Likelihood
from curvae.objectives import DiscreteElbo
from curvae.priors import UniformCategorical
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import (
    DiscreteGradientWord,
    discrete_gradient_for,
    standard_generative_model,
    standard_network,
)
from curvae.typing import DataSpec


@register("direct-vae", "discrete", own_prior=True)
def direct_vae(
    spec: DataSpec,
    variables: int = 1,
    categories: int = 10,
    hidden: int = 256,
    depth: int = 2,
    pairwise: bool = False,
    gradient: DiscreteGradientWord = "direct",
    epsilon: float = 1.0,
    temperature: float = 1.0,
    samples: int = 2,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """VAE with discrete latents, trained by the difference of two maximizers; other gradients beside it.

    Reference: after Lorberbom et al., *Direct Optimization through arg max for Discrete VAEs*, NeurIPS 2019.

    Differences: the divergence is part of what is trained; the published code adds it to the logged number alone.
    Epsilon is in units of the reward's spread and constant. With ``pairwise`` the posterior is normalized exactly.

    Starts at random: the latents of a linear model are no categories.

    Args:
        variables: number N of discrete variables.
        categories: number K of categories of each.
        pairwise: binary variables that attract one another, at most 16, instead of independent ones.
        gradient: "direct", "gumbel-softmax", "straight-through", "leave-one-out" or "exact", by enumeration.
        epsilon: of the direct gradient.
        temperature: of the two relaxed gradients.
        samples: draws of each example in training; 2 or more for "leave-one-out".
        encoder: your own network, from a batch of data to N K values, or N (N + 1) / 2 if pairwise.
        decoder: your own network, from (N, N K) to the likelihood's parameters.

    Raises:
        ValueError: pairwise with other than 2 categories, or a relaxed gradient.

    Example:
        >>> direct_vae(DataSpec((64,)), variables=3, categories=4, hidden=32).model.prior.size
        12
    """
    outputs = variables * (variables + 1) // 2 if pairwise else variables * categories
    if pairwise and (categories != 2 or gradient in ("gumbel-softmax", "straight-through")):
        raise ValueError(f"pairwise: expects categories=2 and no relaxed gradient; got {categories} and {gradient!r}.")
    prior = UniformCategorical(variables, categories)
    model = standard_generative_model(spec, prior.size, hidden, depth, decoder, likelihood, prior)
    network = encoder or standard_network(spec, outputs, hidden, depth)
    inference = AmortizedPairwise(network) if pairwise else AmortizedCategorical(network)
    objective = DiscreteElbo(discrete_gradient_for(gradient, epsilon, temperature))
    return LatentSystem(model, inference, objective, samples)
