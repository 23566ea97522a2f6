"""The variational Laplace autoencoder with several modes."""

from functools import partial

from torch import nn

from curvae.inference import AmortizedGaussian, Laplace, MultimodalLaplace
from curvae.likelihoods import Likelihood
from curvae.objectives import monte_carlo_elbo
from curvae.systems.base import LatentSystem, Stage, register
from curvae.systems.parts import standard_encoder, standard_model, train
from curvae.typing import DataSpec


@register("multimodal-vlae")
def multimodal_vlae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    components: int = 4,
    steps: int = 4,
    warmup: float = 0.5,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Variational Laplace autoencoder whose posterior is a mixture over the modes found from several starts; ours.

    Reference: after Park, Kim and Kim, *Variational Laplace Autoencoders*, ICML 2019.

    Differences: the paper finds one mode.

    Args:
        spec: shape and support of the data (``data.spec``).
        latent: number of latent dimensions D.
        hidden: width of the hidden layers.
        depth: number of hidden layers, in encoder and decoder.
        components: number of starts: the encoder's mean, and draws of the prior.
        steps: number of Newton steps from each.
        warmup: share of the epochs, in [0, 1), trained as a plain VAE first.
        encoder: your own network, from a batch of data to 2 D values.
        decoder: your own network, from (N, D) to the likelihood's parameters.
        likelihood: your own; by default Gaussian with one learned variance, Bernoulli or categorical, by the data.

    Raises:
        ValueError: warmup outside [0, 1).

    Example:
        >>> multimodal_vlae(DataSpec((64,)), latent=2, hidden=32).inference.components
        4
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the epochs, in [0, 1); got {warmup}.")
    model = standard_model(spec, latent, hidden, depth, decoder, likelihood)
    start = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    inference = MultimodalLaplace(start, components, partial(Laplace, steps=steps))
    stages = (train(model, "laplace"),)
    if warmup:
        first = train(model, "vae", bound=lambda batch: system.bound_of(start, batch), share=warmup)
        stages = (first, Stage("laplace", share=1 - warmup))
    system = LatentSystem(model, inference, monte_carlo_elbo, stages=stages)
    return system
