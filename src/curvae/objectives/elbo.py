"""The evidence lower bound."""

import torch
from torch import Tensor, nn

from curvae.model import LatentVariableModel
from curvae.objectives.objective import Bound, Kind, declares, with_credit
from curvae.posteriors import Draws, Posterior, kl
from curvae.typing import Batch, PerDatum


@declares("lower")
def elbo(
    model: LatentVariableModel,
    posterior: Posterior,
    batch: Batch,
    samples: int = 1,
    beta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Bound:
    """``E_q[log p(x | z)] - KL(q || p)``: the divergence in closed form where there is one, else from the draws.

    ``beta`` weighs the divergence in the surrogate; the reported value never sees it. ``generator`` makes
    the draws.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> elbo(model, q, Batch(torch.zeros(4, 3), torch.arange(4)), 5).value.shape
        torch.Size([4])
    """
    return _elbo(model, posterior, batch, samples, beta, generator)


class AnnealedElbo(nn.Module):
    """The ELBO whose surrogate weighs the divergence by ``beta * min(1, (step + 1) / warmup)``.

    ``step`` counts training steps; it is a buffer, returned as state and written by the trainer.

    Args:
        warmup: number of steps over which the weight grows from 0.
        beta: its final value.

    Raises:
        ValueError: ``warmup`` below 1.
    """

    kind: Kind = "lower"
    step: Tensor

    def __init__(self, warmup: int, beta: float = 1.0):
        super().__init__()
        if warmup < 1:
            raise ValueError(f"AnnealedElbo: warmup must be 1 step or more; got {warmup}. Without one, use elbo.")
        self.warmup = warmup
        self.beta = beta
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        beta = self.beta * ((self.step + 1) / self.warmup).clamp(max=1.0)
        bound = _elbo(model, posterior, batch, samples, beta)
        return bound._replace(state={"step": self.step + 1})


def reconstruction_and_kl(
    model: LatentVariableModel,
    posterior: Posterior,
    batch: Batch,
    samples: int,
    generator: torch.Generator | None = None,
) -> tuple[PerDatum, PerDatum]:
    """``E_q log p(x | z)`` and ``KL(q || p)``, whose difference is the ELBO; choices without a path have their credit.

    The divergence is in closed form where there is one, else from the same draws.
    """
    draws = posterior.draw(samples, generator)
    fit = (draws.log_c.exp() * with_credit(model.log_likelihood(batch.x, draws.z, batch.mask), draws)).sum(0)
    return fit, kl_or_estimate(model, posterior, draws)


def kl_or_estimate(model: LatentVariableModel, posterior: Posterior, draws: Draws) -> PerDatum:
    """``KL(q || p)``, in closed form where there is one, else from the draws."""
    divergence = kl(posterior, model.prior)
    if divergence is not None:
        return divergence.sum(-1)
    return (draws.log_c.exp() * with_credit(draws.log_q - model.prior.log_prob(draws.z), draws)).sum(0)


def _elbo(
    model: LatentVariableModel,
    posterior: Posterior,
    batch: Batch,
    samples: int,
    beta: float | Tensor,
    generator: torch.Generator | None = None,
) -> Bound:
    fit, rate = reconstruction_and_kl(model, posterior, batch, samples, generator)
    return Bound(fit - rate, fit - beta * rate, {"kl": rate.detach()})
