"""The variational lossy autoencoder."""

from torch import nn

from curvae import likelihoods
from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import kernels_for
from curvae.priors import StandardNormal, autoregressive_prior
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import check_sizes, standard_encoder
from curvae.systems.pixels import lossy_objective, picture_event, pixel_decoder, window_within
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("lossy-vae", "model", own_prior=True)
def lossy_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    window: int | None = 2,
    layers: int = 3,
    channels: int = 16,
    flows: int = 2,
    width: int = 128,
    free_bits: float = 0.0,
    diversity: float = 0.0,
    smoothness: float = 0.0,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Lossy autoencoder: the decoder sees the pixels near each one, so that latents keep what these do not say.

    Reference: Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever and Abbeel, *Variational Lossy Autoencoder*,
    ICLR 2017; mutual divergence after Ma, Zhou and Hovy, *MAE*, ICLR 2019.

    Differences: residual layers without a blind spot (:class:`curvae.networks.MaskedDecoder`) beside an ordinary
    decoder, fully connected encoder; the channels of a pixel are independent given the pixels before.

    Args:
        window: rows above and pixels to each side that a pixel sees; 0 none (a plain decoder), None all before it, as
            any number beyond the picture does.
        layers: number of masked convolutions.
        channels: units of each at a pixel.
        flows: masked networks of the autoregressive prior; 0 is N(0, I).
        width: of their hidden layer.
        free_bits: nats of divergence that cost little, by a weight that adapts.
        diversity: weight eta of what keeps posteriors apart; free_bits then are of the batch's mean.
        smoothness: weight gamma of what keeps them evenly apart.

    Raises:
        ValueError: data that are not pictures; a kl_warmup beside free_bits, diversity or smoothness.

    Example:
        >>> system = lossy_vae(DataSpec((1, 8, 8)), latent=2, hidden=32, window=3)
        >>> system.model.decoder.window, system.sample(3).shape
        (3, torch.Size([3, 1, 8, 8]))
    """
    check_sizes(latent, hidden, depth)
    event, likelihood = picture_event("lossy-vae", spec), likelihood or likelihoods.default(spec)
    kernels = kernels_for(window_within(window, event), layers)
    decoder = pixel_decoder(spec, likelihood, latent, [hidden] * depth, kernels, channels)
    prior = autoregressive_prior(latent, flows, [width]) if flows else StandardNormal(latent)
    model = LatentVariableModel(prior, decoder, likelihood, autoregressive=True)
    inference = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    objective = lossy_objective(free_bits, diversity, smoothness, kl_warmup)
    return LatentSystem(model, inference, objective, stages=single(start_for(start, encoder)))
