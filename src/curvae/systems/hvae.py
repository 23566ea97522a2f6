"""The Hamiltonian variational autoencoder."""

from typing import Literal

from torch import nn

from curvae.inference import AmortizedGaussian, FreeTempering, HamiltonianFlow, NoTempering, QuadraticTempering
from curvae.likelihoods import Likelihood
from curvae.objectives import monte_carlo_elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_encoder, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("hvae", "posterior")
def hvae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 5,
    tempering: Literal["none", "fixed", "free"] = "fixed",
    step: float = 0.05,
    per_step: bool = False,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Hamiltonian VAE: draws of the encoder's Gaussian carried along by tempered Hamiltonian dynamics on log p(x, z).

    Reference: Caterini, Doucet and Sejdinovic, *Hamiltonian Variational Auto-Encoder*, NeurIPS 2018.

    Differences: the steps begin at 0.05, not 0.2, as the default likelihood of real data is sharper than binary pixels.

    Args:
        steps: number of leapfrog steps; one draw costs one gradient more.
        tempering: of the momentum: none, a quadratic schedule from a learned temperature, or each factor learned.
        step: length of the leapfrog steps to begin with, below 0.5; learned for each dimension.
        per_step: learn other lengths for each step.

    Example:
        >>> hvae(DataSpec((64,)), latent=2, hidden=32, steps=3).inference.steps.count
        3
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    first = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    schedule = {"none": NoTempering, "fixed": QuadraticTempering, "free": lambda: FreeTempering(steps)}[tempering]()
    inference = HamiltonianFlow(first, latent, steps, schedule, step, per_step)
    return LatentSystem(model, inference, monte_carlo_elbo, stages=single(start_for(start, encoder, decoder)))
