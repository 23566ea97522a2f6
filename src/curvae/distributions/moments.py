"""Moments from weighted draws, for laws without a closed form."""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.posterior import Draws, Posterior
from curvae.noise import common_noise

DRAWS = 1024
"""Draws for moments and intervals, always the same ones: the mean is off by 1/32 of a standard deviation."""


def weighted_mean(draws: Draws) -> Float[Tensor, "B D"]:
    """``sum_s exp(log_c_s) z_s``."""
    return (draws.log_c.exp().unsqueeze(-1) * draws.z).sum(0)


def weighted_covariance(draws: Draws) -> Float[Tensor, "B D D"]:
    """``sum_s exp(log_c_s) (z_s - mean)(z_s - mean)'``."""
    offset = draws.z - weighted_mean(draws)
    return torch.einsum("sb,sbi,sbj->bij", draws.log_c.exp(), offset, offset)


def weighted_interval(draws: Draws, level: float = 0.9) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Central interval of each dimension from the weighted empirical distribution.

    Example:
        >>> import torch
        >>> from curvae.posteriors import Draws
        >>> z = torch.linspace(0, 1, 1001).reshape(1001, 1, 1)
        >>> low, high = weighted_interval(Draws.iid(z, torch.zeros(1001, 1)), 0.9)
        >>> f"{low.item():.2f} {high.item():.2f}"
        '0.05 0.95'
    """
    order = draws.z.argsort(0)
    z = draws.z.gather(0, order)
    weight = draws.log_c.exp().unsqueeze(-1).expand_as(draws.z).gather(0, order).cumsum(0)
    tail = (1 - level) / 2
    last = len(z) - 1
    low = (weight < tail).sum(0, keepdim=True).clamp(max=last)
    high = (weight < 1 - tail).sum(0, keepdim=True).clamp(max=last)
    return z.gather(0, low)[0], z.gather(0, high)[0]


class DrawnPosterior(Posterior):
    """Mean, covariance and interval are those of 1024 draws, without gradient, from noise that repeats."""

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return weighted_mean(self._sample())

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return weighted_covariance(self._sample())

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        return weighted_interval(self._sample(), level)

    @torch.no_grad()
    def _sample(self) -> Draws:
        return self.draw(DRAWS, common_noise(0, self.center.device))
