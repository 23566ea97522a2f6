"""The variational autoencoder."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_after, standard_system
from curvae.typing import DataSpec


@register("vae")
def vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Variational autoencoder: one encoder pass gives a diagonal Gaussian.

    Reference: Kingma and Welling, *Auto-Encoding Variational Bayes*, ICLR 2014.

    Args:
        spec: shape and support of the data (``data.spec``).
        latent: number of latent dimensions D.
        hidden: width of the hidden layers.
        depth: number of hidden layers, in encoder and decoder.
        kl_warmup: training steps over which the divergence's weight grows to 1; never in a reported number.
        encoder: your own network, from a batch of data to 2 D values.
        decoder: your own network, from (N, D) to the likelihood's parameters.
        likelihood: your own; by default Gaussian with one learned variance, Bernoulli or categorical, by the data.

    Example:
        >>> vae(DataSpec((64,)), latent=2, hidden=32).model.prior.size
        2
    """
    return standard_system(spec, latent, hidden, depth, elbo_after(kl_warmup), 1, encoder, decoder, likelihood)
