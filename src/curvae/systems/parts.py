"""What the systems of this folder have in common: the default networks, likelihood and preparation."""

from collections.abc import Callable
from math import prod, sqrt
from typing import Literal, get_args

import torch
from torch import nn

from curvae import likelihoods
from curvae.distributions import ConditionalDistribution, FixedNormal, LearnedNormal, OneHot
from curvae.inference import AmortizedGaussian, AmortizedMixture
from curvae.likelihoods import Categorical, Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import MLP, ColumnFront, IdentifiableDecoder, LadderEncoder, Logarithm, ladder_decoder
from curvae.objectives import (
    AnnealedElbo,
    DirectArgmax,
    DiscreteGradient,
    DoublyReparameterized,
    Enumeration,
    Estimator,
    GumbelSoftmax,
    LeaveOneOut,
    Objective,
    Reparameterized,
    StickingTheLanding,
    StraightThrough,
    elbo,
)
from curvae.priors import Prior, StandardNormal
from curvae.systems.base import LatentSystem
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec

DEEPEST = 1000
"""Layers of a default network."""
Gradient = Literal["standard", "stl", "dreg"]
"""Word for an estimator in a system's signature."""

ESTIMATORS: dict[str, Estimator] = {
    "standard": Reparameterized(),
    "stl": StickingTheLanding(),
    "dreg": DoublyReparameterized(),
}


DiscreteGradientWord = Literal["direct", "gumbel-softmax", "straight-through", "leave-one-out", "exact"]
"""Word for an estimator of discrete latents in a system's signature."""


def discrete_gradient_for(gradient: str, epsilon: float, temperature: float) -> DiscreteGradient:
    """The estimator that a word of a system's signature stands for; it takes what it needs of the numbers.

    Raises:
        ValueError: no such word.
    """
    match gradient:
        case "direct":
            return DirectArgmax(epsilon)
        case "gumbel-softmax":
            return GumbelSoftmax(temperature)
        case "straight-through":
            return StraightThrough(temperature)
        case "leave-one-out":
            return LeaveOneOut()
        case "exact":
            return Enumeration()
        case _:
            words = ", ".join(get_args(DiscreteGradientWord))
            raise ValueError(f"gradient: expected one of {words}; got {gradient!r}.")


LayerFamily = Literal["fixed", "learned", "categorical"]
"""Word for the family of a layer in a system's signature."""


def layer_family(word: str, size: int, categories: int) -> ConditionalDistribution:
    """The family that a word of a system's signature stands for.

    Raises:
        ValueError: no such word, or a size that is not a multiple of the categories.
    """
    if word == "categorical":
        if categories < 2 or size % categories:
            raise ValueError(f"latent must be a multiple of categories, 2 or more; got {size} and {categories}.")
        return OneHot(size // categories, categories)
    families: dict[str, Callable[[int], ConditionalDistribution]] = {"fixed": FixedNormal, "learned": LearnedNormal}
    if word not in families:
        raise ValueError(f"family: expected fixed, learned or categorical; got {word!r}.")
    return families[word](size)


def estimator_for(gradient: str) -> Estimator:
    """The estimator that a word of a system's signature stands for.

    Raises:
        ValueError: no such word.
    """
    if gradient not in ESTIMATORS:
        raise ValueError(f"gradient: expected one of {', '.join(ESTIMATORS)}; got {gradient!r}.")
    return ESTIMATORS[gradient]


def elbo_with_warmup(warmup: int) -> Objective:
    """The ELBO, whose divergence comes to its full weight over so many training steps; 0 = from the start."""
    return AnnealedElbo(warmup) if warmup else elbo


def standard_system(
    spec: DataSpec,
    latent: int,
    hidden: int,
    depth: int,
    objective: Objective,
    samples: int = 1,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """The standard model and one encoder of a diagonal Gaussian, trained by this objective.

    Raises:
        ValueError: latent, hidden, depth or samples below 1.
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    inference = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    return LatentSystem(model, inference, objective, samples, single(start_for(start, encoder, decoder)))


def standard_generative_model(
    spec: DataSpec,
    latent: int,
    hidden: int,
    depth: int,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
) -> LatentVariableModel:
    """A decoder of ``depth`` ReLU layers, the data's likelihood and a standard normal prior, unless they are given.

    Raises:
        ValueError: latent, hidden or depth below 1.
    """
    check_sizes(latent, hidden, depth)
    likelihood = likelihood or likelihoods.default(spec)
    decoder = decoder or MLP(latent, [hidden] * depth, likelihood.size)
    return LatentVariableModel(prior or StandardNormal(latent), decoder, likelihood)


def check_sizes(latent: int, hidden: int, depth: int) -> None:
    """The door of default networks.

    Raises:
        ValueError: one below 1, or a depth beyond :data:`DEEPEST`.
    """
    for name, value in {"latent": latent, "hidden": hidden, "depth": depth}.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more; got {value}.")
    if depth > DEEPEST:
        raise ValueError(f"depth must be {DEEPEST} or less; got {depth}.")


def identifiable_decoder(
    name: str, likelihood: Likelihood, latent: int | None, hidden: int, depth: int
) -> IdentifiableDecoder:
    """A decoder for this likelihood that tells all latents apart; of categories, it gives all but one of each element.

    Raises:
        ValueError: fewer than 1 latent, or more than the values that tell laws of x apart; no hidden layer.
    """
    categories = likelihood.categories if isinstance(likelihood, Categorical) else None
    outputs = likelihood.size if categories is None else likelihood.size // categories * (categories - 1)
    latent = max(1, min(16, outputs // 4)) if latent is None else latent
    if not 1 <= latent <= outputs:
        raise ValueError(f"{name}: latent must be from 1 to {outputs}, the values that tell data apart; got {latent}.")
    return IdentifiableDecoder(latent, outputs, [hidden] * depth, categories)


def standard_encoder(spec: DataSpec, latent: int, hidden: int, depth: int) -> nn.Module:
    """``depth`` hidden ReLU layers, to 2 D values."""
    return standard_network(spec, 2 * latent, hidden, depth)


def flow_encoder(spec: DataSpec, latent: int, context: int, hidden: int, depth: int) -> nn.Module:
    """``depth`` hidden ReLU layers, to means and log-scales that start as a plain VAE's do, and what a flow takes.

    Weights start the narrower the more outputs a layer has; means that start narrow invite a collapse to the prior.
    """
    network = standard_network(spec, 2 * latent + context, hidden, depth)
    *_, weight, _ = network.parameters()
    with torch.no_grad():
        weight[: 2 * latent].mul_(sqrt(1 + context / (2 * latent)))
    return network


def standard_network(spec: DataSpec, outputs: int, hidden: int, depth: int) -> nn.Module:
    """``depth`` hidden ReLU layers, from an example to so many values."""
    return MLP(encoder_input_size(spec), [hidden] * depth, outputs, front=encoder_front(spec))


def encoder_input_size(spec: DataSpec) -> int:
    """How many numbers an encoder sees of an example."""
    return ColumnFront(spec.groups()).size if spec.support == "mixed" else prod(spec.event)


def encoder_front(spec: DataSpec) -> nn.Module | None:
    """How an encoder sees data of this support: positive numbers by their logarithm, counts by log(1 + x).

    Categories of mixed data are one-hot.
    """
    match spec.support:
        case "positive":
            return Logarithm()
        case "count":
            return Logarithm(1.0)
        case "mixed":
            return ColumnFront(spec.groups())
        case _:
            return None


def ladder_parts(
    spec: DataSpec,
    prior: Prior,
    hidden: int,
    depth: int,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> tuple[LatentVariableModel, AmortizedGaussian]:
    """A model whose decoder has a level for each block of its prior, and the encoder that goes with it."""
    likelihood = likelihood or likelihoods.default(spec)
    decoder = decoder or ladder_decoder(prior.blocks, hidden, depth, likelihood.size)
    encoder = encoder or LadderEncoder.of(encoder_input_size(spec), hidden, depth, prior.blocks, encoder_front(spec))
    return LatentVariableModel(prior, decoder, likelihood), AmortizedGaussian(encoder)


def standard_mixture(spec: DataSpec, latent: int, hidden: int, depth: int, components: int) -> AmortizedMixture:
    """Diagonal Gaussians, each with an encoder of its own, and a network of the same size for their weights.

    Raises:
        ValueError: fewer than 1 component.
    """
    parts = [AmortizedGaussian(standard_encoder(spec, latent, hidden, depth)) for _ in range(components)]
    return AmortizedMixture(parts, standard_network(spec, components, hidden, depth))
