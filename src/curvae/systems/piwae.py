"""The partially importance-weighted autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Piwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("piwae", "objective")
def piwae(
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
    """Partially importance-weighted autoencoder: the tightest bound for the decoder, a calmer one for the encoder.

    Reference: Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018.

    Args:
        groups: number M of importance-weighted bounds that the encoder's is the mean of.
        samples: draws K per example in each of them; the decoder's bound takes all M K.

    Example:
        >>> piwae(DataSpec((64,)), latent=2, hidden=32, groups=2, samples=3).objective.groups
        2
    """
    objective = Piwae(groups, estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood, start)
