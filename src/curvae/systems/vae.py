"""The variational autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, standard_system
from curvae.typing import DataSpec


@register("vae", "first")
def vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Variational autoencoder: one encoder pass gives a diagonal Gaussian.

    Reference: Kingma and Welling, *Auto-Encoding Variational Bayes*, ICLR 2014.

    Example:
        >>> vae(DataSpec((64,)), latent=2, hidden=32).model.prior.size
        2
    """
    return standard_system(
        spec, latent, hidden, depth, elbo_with_warmup(kl_warmup), 1, encoder, decoder, likelihood, start
    )
