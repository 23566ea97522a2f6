"""Posteriors whose moments have no closed form: they are those of their own draws."""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.moments import weighted_covariance, weighted_interval, weighted_mean
from curvae.distributions.posterior import Draws, Posterior
from curvae.noise import common_noise

DRAWS = 1024
"""Draws for moments and intervals, always the same ones: the mean is off by 1/32 of a standard deviation."""


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
