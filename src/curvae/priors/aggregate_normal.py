"""A normal prior that fits the aggregate of posteriors, and stays as it is where numbers are reported."""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.distributions.gaussian import FullGaussian, GaussianPosterior, pack
from curvae.distributions.kl import register_kl
from curvae.priors.prior import Prior
from curvae.typing import State


class AggregateNormal(Prior):
    """``p(z) = N(z; mean, covariance)``; both are buffers, written by the trainer from what training has seen.

    They start as those of the standard normal. Training moves them by a running average over batches
    (:meth:`toward`); nothing else does, so that a reported bound never looks at the data it is reported for.

    Args:
        size: number of latent dimensions D.
        rate: weight of the newest batch once there have been ``1 / rate`` of them; before that all count the same.

    Raises:
        ValueError: size below 1, rate outside (0, 1].

    Example:
        >>> import torch
        >>> prior = AggregateNormal(2)
        >>> f"{prior.log_prob(torch.zeros(2)):.4f}", prior.sample(5).shape
        ('-1.8379', torch.Size([5, 2]))
    """

    quadratic = True
    mean: Float[Tensor, " D"]
    covariance: Float[Tensor, "D D"]
    seen: Tensor

    def __init__(self, size: int, rate: float = 0.01):
        super().__init__()
        if size < 1 or not 0 < rate <= 1:
            raise ValueError(f"AggregateNormal: expected size >= 1 and rate in (0, 1]; got {size} and {rate}.")
        self.blocks = (size,)
        self.rate = rate
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("covariance", torch.eye(size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def toward(self, mean: Float[Tensor, " D"], covariance: Float[Tensor, "D D"]) -> State:
        """New values of the buffers: one step of the running average towards the moments of a batch."""
        step = (1.0 / (self.seen + 1)).clamp(min=self.rate)
        offset = mean.detach() - self.mean
        spread = torch.lerp(self.covariance, covariance.detach(), step) + step * (1 - step) * offset.outer(offset)
        return {"mean": self.mean + step * offset, "covariance": spread, "seen": self.seen + 1}

    @torch.no_grad()
    def start_from(self, deviation: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        """Latents whose posterior has variance 1: then they vary by ``1 / deviation^2``, the others by 1."""
        variance = torch.ones_like(self.mean)
        variance[: len(deviation)] = deviation.to(variance) ** -2
        self.mean.zero_()
        self.covariance.copy_(torch.diag(variance))
        return deviation

    @property
    def factor(self) -> Float[Tensor, "D D"]:
        """Lower Cholesky factor of the covariance."""
        return linalg.cholesky(self.covariance.unsqueeze(0))[0][0]

    @property
    def law(self) -> FullGaussian:
        """As a batch of one."""
        return FullGaussian(self.mean.unsqueeze(0), pack(self.factor.unsqueeze(0)))

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return self.law.log_prob(z.reshape(-1, 1, self.size)).reshape(z.shape[:-1])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        noise = torch.randn(n, 1, self.size, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.law.from_noise(noise).squeeze(1)

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        return torch.cholesky_inverse(self.factor).expand(*z.shape, self.size)


@register_kl(GaussianPosterior, AggregateNormal)
def _(q: GaussianPosterior, p: AggregateNormal) -> Float[Tensor, "B 1"]:
    """``1/2 (tr S^-1 C + |m_q - m|^2_S^-1 - D + log det S - log det C)``."""
    factor = p.factor
    precision = torch.cholesky_inverse(factor)
    offset = q.loc - p.mean
    trace = (q.covariance * precision).sum((-2, -1))
    spread = trace + ((offset @ precision) * offset).sum(-1) - p.size
    return (0.5 * spread + factor.diagonal().log().sum() - q.half_log_det).unsqueeze(-1)
