"""The variational autoencoder with the posterior of a free-form injective flow."""

from math import prod

from torch import nn

from curvae.inference import PushforwardGaussian
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, standard_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("fif-vae", "posterior")
def fif_vae(
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
    """VAE with the posterior of a free-form injective flow: noise on the data, pushed through the encoder's Jacobian.

    Reference: after Sorrenson, Luhrs, Olischlager and Kothe, *Beyond Diagonal Covariance: Flexible Posterior VAEs via
    Free-Form Injective Flows*, arXiv:2506.01522, 2025.

    Differences: a Gaussian in closed form and its exact gradient, not the free-form estimate of it; noise for each
    value of x, and a part of the variance that the encoder gives itself, see :class:`PushforwardGaussian`.

    Example:
        >>> fif_vae(DataSpec((64,)), latent=2, hidden=32).inference.log_noise.shape
        torch.Size([64])
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    network = encoder or standard_encoder(spec, latent, hidden, depth)
    inference = PushforwardGaussian(network, prod(spec.event))
    begin = start_for(start, encoder, decoder)
    return LatentSystem(model, inference, elbo_with_warmup(kl_warmup), stages=single(begin))
