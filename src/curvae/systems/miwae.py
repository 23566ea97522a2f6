"""The multiply importance-weighted autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Miwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("miwae", "objective")
def miwae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    groups: int = 8,
    samples: int = 8,
    gradient: Gradient = "standard",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Multiply importance-weighted autoencoder: the mean of several importance-weighted bounds, a calmer gradient.

    Not the autoencoder for missing data of the same name.

    Reference: Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018.

    Args:
        groups: number M of importance-weighted bounds that are averaged.
        samples: draws K per example in each of them.

    Example:
        >>> miwae(DataSpec((64,)), latent=2, hidden=32, groups=2, samples=3).objective.groups
        2
    """
    objective = Miwae(groups, estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood, start)
