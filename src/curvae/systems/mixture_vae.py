"""The variational autoencoder with a mixture posterior."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import monte_carlo_elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_generative_model, standard_mixture
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("mixture-vae", "posterior")
def mixture_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    components: int = 4,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Variational autoencoder with a mixture of K diagonal Gaussians, all trained at once by the stratified ELBO.

    Reference: the baseline of Kim and Pavlovic, *Recursive Inference for Variational Autoencoders*, NeurIPS 2020.

    Args:
        depth: number of hidden layers, in each encoder and the decoder.
        components: number K of components.

    Example:
        >>> len(mixture_vae(DataSpec((64,)), latent=2, hidden=32).inference.components)
        4
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    inference = standard_mixture(spec, latent, hidden, depth, components)
    return LatentSystem(model, inference, monte_carlo_elbo, stages=single(start_for(start, decoder)))
