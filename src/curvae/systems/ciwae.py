"""The combination importance-weighted autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Ciwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("ciwae", "objective")
def ciwae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    beta: float = 0.05,
    samples: int = 8,
    gradient: Gradient = "standard",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Combination importance-weighted autoencoder: a weighted mean of the ELBO and the importance-weighted bound.

    Reference: Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, ICML 2018.

    Args:
        beta: share of the ELBO, in [0, 1]; the rest is the importance-weighted bound.
        samples: draws per example in both.

    Example:
        >>> ciwae(DataSpec((64,)), latent=2, hidden=32, beta=0.1).objective.beta
        0.1
    """
    objective = Ciwae(beta, estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood, start)
