"""The autoencoder whose encoder descends an upper bound."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Cubo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import Gradient, estimator_for, standard_system
from curvae.typing import DataSpec


@register("chi-vae", "objective")
def chi_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    order: float = 2.0,
    samples: int = 5,
    gradient: Gradient = "dreg",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Chi autoencoder: the encoder descends the chi upper bound, the decoder ascends the importance-weighted bound.

    Reference: Dieng et al., arXiv:1611.00328, 2017.

    Differences: there the model is given; the bound by which the decoder learns is our choice.

    Args:
        order: n of the chi divergence, above 1.
        samples: draws per example in both bounds.

    Example:
        >>> chi_vae(DataSpec((64,)), latent=2, hidden=32).kind
        'upper'
    """
    objective = Cubo(order, estimator=estimator_for(gradient))
    return standard_system(spec, latent, hidden, depth, objective, samples, encoder, decoder, likelihood, start)
