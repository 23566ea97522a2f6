"""The semi-amortized variational autoencoder."""

from torch import nn

from curvae.inference import AmortizedGaussian, ConstantGaussian, HeavyBall, Refiner, SemiAmortized
from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, standard_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("sa-vae", "posterior")
def sa_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 20,
    rate: float = 0.02,
    momentum: float = 0.5,
    clip: float = 35.0,
    amortized: bool = True,
    unroll: bool = True,
    kl_weight: float = 0.0,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Semi-amortized VAE: the encoder's diagonal Gaussian, refined by gradient steps that training differentiates.

    Reference: Kim, Wiseman, Miller, Sontag and Rush, *Semi-Amortized Variational Autoencoders*, ICML 2018.

    Differences: the default ``rate`` is the published 1 along the mean over 50 data, for one example; the published
    clip of 5 is there 35 an example, where all data have gradients of the same length. Second derivatives are exact.

    Args:
        steps: gradient steps on each example's ELBO; 0 is the plain VAE.
        rate: of a step; too high for a likelihood of small variance.
        momentum: share of the last step that is kept.
        clip: the longest gradient of an example, of means and of log-scales.
        amortized: False starts every example at the prior, without an encoder (the ablation SVI).
        unroll: False trains the encoder on its own ELBO (the ablation VAE+SVI).
        kl_weight: without unroll, weight of KL(start, end) for the encoder (the ablation VAE+SVI+KL has 1).

    Example:
        >>> sa_vae(DataSpec((64,)), latent=2, hidden=32, steps=5).inference.refiner.steps
        5
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    network = encoder or standard_encoder(spec, latent, hidden, depth)
    first = AmortizedGaussian(network) if amortized else ConstantGaussian(latent)
    inference = SemiAmortized(first, Refiner(steps, HeavyBall(rate, momentum, clip)), unroll, kl_weight)
    return LatentSystem(
        model, inference, elbo_with_warmup(kl_warmup), stages=single(start_for(start, encoder, decoder))
    )
