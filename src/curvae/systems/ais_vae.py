"""A variational autoencoder whose posterior is annealed importance sampling."""

from torch import nn

from curvae.inference import AmortizedGaussian, AnnealedHMC
from curvae.likelihoods import Likelihood
from curvae.objectives import iwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("ais-vae", "posterior")
def ais_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 5,
    leapfrogs: int = 1,
    step: float = 0.05,
    metropolis: bool = False,
    samples: int = 1,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Annealed VAE: draws of the encoder's Gaussian led to the posterior by Hamiltonian transitions, differentiably.

    Reference: after Geffner & Domke, *MCMC Variational Inference via Uncorrected Hamiltonian Annealing*, NeurIPS 2021.

    Differences: every transition has a fresh momentum; temperatures are spaced evenly and not learned.

    Args:
        steps: number of temperatures.
        leapfrogs: leapfrog steps at each; one draw costs their number in gradients, and one more.
        step: length of the leapfrog steps to begin with, below 0.5; learned for each temperature and dimension.
        metropolis: accept or refuse transitions, as annealed importance sampling does; then samples must be 2 or more.
        samples: draws per example in the bound.

    Example:
        >>> ais_vae(DataSpec((64,)), latent=2, hidden=32, steps=3).inference.steps.count
        3
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    first = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    inference = AnnealedHMC(first, latent, steps, leapfrogs, step, metropolis)
    return LatentSystem(model, inference, iwae, samples=samples, stages=single(start_for(start, encoder, decoder)))
