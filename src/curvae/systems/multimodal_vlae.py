"""The variational Laplace autoencoder with several modes."""

from functools import partial

from torch import nn

from curvae.inference import AmortizedGaussian, Laplace, MultimodalLaplace
from curvae.likelihoods import Likelihood
from curvae.objectives import monte_carlo_elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_encoder, standard_generative_model
from curvae.systems.stages import BoundBy, Stage, warmed_up
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("multimodal-vlae", "posterior")
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
    start: str = "linear",
) -> LatentSystem:
    """Variational Laplace autoencoder whose posterior is a mixture over the modes found from several starts; ours.

    Reference: after Park, Kim and Kim, *Variational Laplace Autoencoders*, ICML 2019.

    Differences: the paper finds one mode.

    Args:
        components: number of starts: the encoder's mean, and draws of the prior.
        steps: number of Newton steps from each.
        warmup: share of the time, in [0, 1), trained as a plain VAE first.

    Raises:
        ValueError: warmup outside [0, 1).

    Example:
        >>> multimodal_vlae(DataSpec((64,)), latent=2, hidden=32).inference.components
        4
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    first = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    inference = MultimodalLaplace(first, components, partial(Laplace, steps=steps))
    first_bound, begin = BoundBy("inference.search.start.start"), start_for(start, encoder, decoder)
    stages = warmed_up(Stage("laplace"), warmup, first_bound, begin, judged=BoundBy())
    return LatentSystem(model, inference, monte_carlo_elbo, stages=stages)
