"""The variational autoencoder with a Householder flow."""

from torch import nn

from curvae.inference import AmortizedHouseholder
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, flow_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("householder-vae", "posterior")
def householder_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    reflections: int = 10,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with a Householder flow: a full covariance, the diagonal one turned by reflections from the encoder.

    Reference: Tomczak and Welling, *Improving Variational Auto-Encoders using Householder Flow*, arXiv 2016.

    Differences: the divergence is in closed form; plain ReLU layers instead of gated ones.

    Args:
        reflections: their number; latent - 1 reach every covariance.
        encoder: your own network, from a batch of data to 3 D values.

    Example:
        >>> len(householder_vae(DataSpec((64,)), latent=4, hidden=32, reflections=3).inference.chain)
        2
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    network = encoder or flow_encoder(spec, latent, latent, hidden, depth)
    inference = AmortizedHouseholder(network, latent, reflections)
    return LatentSystem(
        model, inference, elbo_with_warmup(kl_warmup), stages=single(start_for(start, encoder, decoder))
    )
