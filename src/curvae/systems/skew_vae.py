"""The autoencoder with the skew-geometric Jensen-Shannon divergence."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import SkewJensenShannon
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_system
from curvae.typing import DataSpec


@register("skew-vae", "objective", own_prior=True)
def skew_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    skew: float = 0.5,
    weight: float = 1.0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Geometric Jensen-Shannon autoencoder: a divergence between KL(q || p) and KL(p || q) regularizes the encoder.

    Reference: after Deasy et al., 2020.

    Args:
        skew: 0 is the ELBO, 1 takes the opposite divergence.
        weight: factor on the divergence in training.

    Example:
        >>> skew_vae(DataSpec((64,)), latent=2, hidden=32).kind
        'none'
    """
    objective = SkewJensenShannon(skew, weight)
    return standard_system(spec, latent, hidden, depth, objective, 1, encoder, decoder, likelihood, start)
