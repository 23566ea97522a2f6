"""The autoencoder with Rényi's bound."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Renyi
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("renyi-vae", "objective")
def renyi_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    alpha: float = 0.5,
    samples: int = 5,
    gradient: Gradient = "standard",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Rényi autoencoder: a bound between the ELBO and the importance-weighted one, by the order of the divergence.

    Reference: Li and Turner, arXiv:1602.02311, 2016.

    Args:
        alpha: order of the divergence: 1 is the ELBO, 0 the importance-weighted bound; below 0 it is no bound.
        samples: draws per example in the bound.

    Example:
        >>> renyi_vae(DataSpec((64,)), latent=2, hidden=32, alpha=0.3).objective.alpha
        0.3
    """
    objective = Renyi(alpha, estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood, start)
