"""The importance-weighted autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Iwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("iwae", "objective")
def iwae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    samples: int = 5,
    gradient: Gradient = "standard",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Importance-weighted autoencoder: a tighter bound from several draws of a diagonal Gaussian.

    Reference: Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016.

    Args:
        samples: draws per example in the bound.

    Example:
        >>> iwae(DataSpec((64,)), latent=2, hidden=32, samples=3).samples
        3
    """
    objective = Iwae(estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood, start)
