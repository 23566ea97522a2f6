"""Inference by Hamiltonian dynamics that is learned with the model: the Hamiltonian VAE, and annealed HMC."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.inference.inference import Continued, Inference, Inferred, prefixed
from curvae.inference.momentum_tempering import NoTempering, Tempering
from curvae.model import LatentVariableModel, require_continuous
from curvae.posteriors import AnnealedPosterior, DensityPosterior, HamiltonianPosterior
from curvae.typing import Batch

LONGEST = 0.5
"""Leapfrog steps stay below it."""


class LearnedStepSizes(nn.Module):
    """Learned leapfrog steps in (0, 0.5), ``1/2 sigmoid(raw)``, for each of D dimensions.

    Args:
        count: number K of steps.
        size: number D of latent dimensions.
        begin: their length to begin with.
        per_step: one set for each step, instead of one for all.

    Raises:
        ValueError: fewer than 1 step, or a length outside (0, 0.5); in use, discrete latents.
    """

    def __init__(self, count: int, size: int, begin: float = 0.2, per_step: bool = False):
        super().__init__()
        if count < 1 or not 0 < begin < LONGEST:
            raise ValueError(f"leapfrog steps: expects 1 or more, of a length in (0, {LONGEST}); got {count}, {begin}.")
        self.count = count
        share = begin / LONGEST
        self.raw = nn.Parameter(torch.full((count if per_step else 1, size), math.log(share / (1 - share))))

    def forward(self, batch: int) -> Float[Tensor, "B K D"]:
        """Their logarithms, the same for every example."""
        log_step = math.log(LONGEST) + nn.functional.logsigmoid(self.raw)
        return log_step.expand(batch, self.count, -1)


class HamiltonianFlow(Continued):
    """Draws of an encoder's posterior carried on by K leapfrog steps with tempering; all step sizes are learned.

    See :class:`curvae.posteriors.HamiltonianPosterior` for the equations. One draw costs K + 1 gradients of
    ``log p(x, z)``, and training differentiates through them.

    Args:
        start: gives the posterior to begin with.
        size: number of latent dimensions D.
        steps: number K of leapfrog steps.
        tempering: how the momentum cools; not at all by default.
        step: length of the leapfrog steps to begin with, in (0, 0.5).
        per_step: learn another length for each step.

    Raises:
        ValueError: fewer than 1 step, or a length outside (0, 0.5); in use, discrete latents.

    Reference: Caterini, Doucet and Sejdinovic, *Hamiltonian Variational Auto-Encoder*, NeurIPS 2018.

    Differences: the bound is estimated from the draws throughout, where the paper puts the mean D for
    ``1/2 |z_0 - m|^2 / s^2 + 1/2 |r_0|^2 / T_0``; so a draw of the exact posterior has no variance.

    Example:
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> inference = HamiltonianFlow(AmortizedGaussian(torch.nn.Linear(10, 6)), size=3, steps=4)
        >>> inference(model, Batch(torch.randn(8, 10), torch.arange(8))).posterior.draw(5).z.shape
        torch.Size([5, 8, 3])
    """

    def __init__(
        self,
        start: Inference,
        size: int,
        steps: int = 5,
        tempering: Tempering | None = None,
        step: float = 0.2,
        per_step: bool = False,
    ):
        super().__init__(start)
        self.steps = LearnedStepSizes(steps, size, step, per_step)
        self.tempering = tempering or NoTempering()

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        require_continuous(model, type(self).__name__)
        begin = self.start(model, batch)
        log_step = self.steps(len(batch.x))
        temperature = self.tempering(self.steps.count).to(log_step).expand(len(batch.x), -1)
        posterior = HamiltonianPosterior(begin.posterior, model, batch.x, log_step, temperature, batch.mask)
        return begin._replace(posterior=posterior, state=prefixed("start", begin.state))


class AnnealedHMC(Continued):
    """Annealed importance sampling from an encoder's posterior, differentiable, with learned step sizes.

    See :class:`curvae.posteriors.AnnealedPosterior` for the equations. One draw costs ``leapfrogs`` K + 1 gradients.

    Args:
        start: gives the posterior to begin with, which must have a density.
        size: number of latent dimensions D.
        steps: number K of temperatures; they are spaced evenly.
        leapfrogs: leapfrog steps at each.
        step: their length to begin with, in (0, 0.5).
        metropolis: accept or refuse, as in annealed importance sampling; training then needs an objective that takes
            draws without path gradient, and two draws or more.

    Raises:
        ValueError: fewer than 1 step, a length outside (0, 0.5), or a start without density.

    Example:
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> inference = AnnealedHMC(AmortizedGaussian(torch.nn.Linear(10, 6)), size=3, steps=4)
        >>> inference(model, Batch(torch.randn(8, 10), torch.arange(8))).posterior.draw(5).z.shape
        torch.Size([5, 8, 3])
    """

    def __init__(
        self,
        start: Inference,
        size: int,
        steps: int = 5,
        leapfrogs: int = 1,
        step: float = 0.1,
        metropolis: bool = False,
    ):
        super().__init__(start)
        self.steps = LearnedStepSizes(steps, size, step, per_step=True)
        self.leapfrogs = leapfrogs
        self.metropolis = metropolis

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        require_continuous(model, type(self).__name__)
        begin = self.start(model, batch)
        q = begin.posterior
        if not isinstance(q, DensityPosterior):
            raise ValueError(f"AnnealedHMC: start must give a posterior with a density; got {type(q).__name__}.")
        log_step = self.steps(len(batch.x))
        betas = torch.linspace(0, 1, self.steps.count + 1, dtype=log_step.dtype, device=log_step.device)
        ways = self.leapfrogs, self.metropolis
        posterior = AnnealedPosterior(q, model, batch.x, log_step, betas, *ways, batch.mask)
        return begin._replace(posterior=posterior, state=prefixed("start", begin.state))
