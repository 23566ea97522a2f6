"""What likelihoods of counts have in common: the decoder gives the logarithm of the mean."""

import torch
from torch import Tensor

from curvae.likelihoods.likelihood import Likelihood
from curvae.linear import LinearGaussian, ppca

LARGEST = 1.0
"""Standard deviation of the log-means at most, where a decoder starts."""


class LogLink(Likelihood):
    """Starts at principal components of ``log(1 + x)``; of an exposure t the mean is ``t exp(out)``."""

    def with_exposure(self, out: Tensor, exposure: Tensor) -> Tensor:
        """``eta = out + log t``."""
        return out + exposure.log().unsqueeze(-1)

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double().log1p()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components."""
        return (ppca(self.linear_features(x), latent, None if mask is None else self.flat(mask)),)

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """The model on the scale of the log-means, to first order around the means; not exact.

        With ``f = log(1 + mean)`` a change of f is one of the log-mean over ``1 - exp(-f)``. The mean over N(0, I) of
        ``exp(w'z + b)`` is ``exp(b + |w|^2 / 2)``: so b is that of the mean of x.
        """
        level = model.mean.clamp(min=1e-3)
        weight = model.weight / -torch.expm1(-level).unsqueeze(1)
        size = weight.square().sum(1).sqrt()
        weight = weight * (size.clamp(max=LARGEST) / size.clamp(min=1e-12)).unsqueeze(1)
        spread = 0.5 * (model.weight.square().sum(1) + model.noise)
        mean = torch.expm1(level + spread * -torch.expm1(-level))
        return weight, mean.log() - 0.5 * weight.square().sum(1)
