"""Gaussian likelihood: the decoder gives the mean."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from curvae.likelihoods.likelihood import Likelihood, Quadratic, masked
from curvae.linalg import LOG_2PI, least_squares
from curvae.linear import LinearGaussian, factor_analysis, ppca


class Gaussian(Likelihood):
    r"""``p(x | eta) = N(x; eta, diag(s^2))``, ``s^2 = floor^2 + exp(log_variance)`` where it is learned.

    Args:
        event: size or shape of one example.
        scale: the standard deviation, fixed; or where a learned one starts, whatever the start of the networks: a
            linear model is then fitted with that noise. Left out, it is 1 where it is fixed, and a learned one starts
            at what the linear model leaves, or at that of the training data.
        learn: ``None`` fixed, ``"shared"`` one variance for all elements (as in VLAE), ``"element"`` one for each.
        floor: the least standard deviation that learning can reach; without one the density has no bound.

    Raises:
        ValueError: no such ``learn``, scale or floor not positive, a learned scale that is not above its floor.

    Example:
        >>> import torch
        >>> likelihood = Gaussian(2, scale=1.0)
        >>> f"{likelihood.log_prob(torch.zeros(1, 2), torch.ones(1, 2)).item():.4f}"   # -1 - log(2 pi)
        '-2.8379'
    """

    one: Tensor
    reparameterized = True

    def __init__(
        self,
        event: int | tuple[int, ...],
        scale: float | None = None,
        learn: Literal["shared", "element"] | None = None,
        floor: float = 1e-3,
    ):
        super().__init__(event)
        if learn not in (None, "shared", "element"):
            raise ValueError(f"Gaussian: learn must be None, 'shared' or 'element'; got {learn!r}.")
        self.starts_from_data = learn is not None and scale is None
        scale = 1.0 if scale is None else scale
        if not (scale > 0 and floor > 0):
            raise ValueError(f"Gaussian: scale and floor must be positive; got scale={scale}, floor={floor}.")
        self.information = "constant"
        self.learn = learn
        self.floor = floor if learn else 0.0
        self.scale = scale
        self.register_buffer("one", torch.ones(1), persistent=False)
        if learn:
            if not scale > floor:
                raise ValueError(f"Gaussian: a scale that is learned must be above its floor, {floor}; got {scale}.")
            start = math.log(scale**2 - floor**2)
            self.log_variance = nn.Parameter(torch.full((self.size if learn == "element" else 1,), start))

    @property
    def variance(self) -> Tensor:
        """(P,) or (1,)."""
        return self.floor**2 + self.log_variance.exp() if self.learn else self.one * self.scale**2

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        variance, offset = self.variance, self.flat(x) - eta
        if mask is None and len(variance) == 1:  # one division for all elements: evaluation spends its time here
            shared = variance[0]
            return -0.5 * (offset.square().sum(-1) / shared + self.size * (shared.log() + LOG_2PI))
        each = offset.square() / variance + variance.log() + LOG_2PI
        return -0.5 * masked(each, None if mask is None else self.flat(mask)).sum(-1)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked((self.flat(x) - eta) / self.variance, None if mask is None else self.flat(mask))

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked(v * self.variance.rsqrt(), None if mask is None else self.flat(mask))

    def diagonal(self, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked((1 / self.variance).expand_as(eta), None if mask is None else self.flat(mask))

    def quadratic(self, x: Tensor, weight: Tensor, bias: Tensor) -> Quadratic:
        if len(variance := self.variance) > 1:
            return super().quadratic(x, weight, bias)
        found = least_squares(self.flat(x), weight, bias, variance[0])
        level = -0.5 * (found.square + self.size * (variance.log() + LOG_2PI))
        return Quadratic(level, found.slope, found.gram)

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(eta)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        return self.unflat(eta + self.variance.sqrt() * noise)

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Start a learned variance at that of the data around their mean, unless its start was given."""
        if not self.starts_from_data:
            return
        x, seen = self.flat(x), torch.ones_like(self.flat(x)) if mask is None else self.flat(mask).to(x.dtype)
        count = seen.sum(0).clamp(min=1)
        mean = (x * seen).sum(0) / count
        squares = ((x - mean).square() * seen).sum(0)
        variance = squares / count if self.learn == "element" else squares.sum(0, keepdim=True) / count.sum()
        self.log_variance.copy_(variance.clamp(min=self.floor**2).log())

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components, and factor analysis where each element has a variance of its own to be found."""
        x, mask = self.flat(x), None if mask is None else self.flat(mask)
        least = 2 * self.floor**2
        if not self.starts_from_data:
            return (ppca(x, latent, mask, noise=self.variance.detach()[0].item()),)
        fits = (ppca(x, latent, mask, least),)
        return (*fits, factor_analysis(x, latent, least)) if self.learn == "element" and mask is None else fits

    @torch.no_grad()
    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        if self.starts_from_data:
            noise = model.noise if self.learn == "element" else model.noise[:1]
            self.log_variance.copy_((noise - self.floor**2).log())
        return model.weight, model.mean

    @torch.no_grad()
    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned variance becomes the mean square of x - eta."""
        if not self.learn:
            return
        squares = (self.flat(x) - eta).square()
        seen = torch.ones_like(self.flat(x)) if mask is None else self.flat(mask).to(x.dtype)
        total, count = (masked(squares, seen > 0).flatten(0, -2).sum(0), seen.expand_as(squares).flatten(0, -2).sum(0))
        variance = total / count.clamp(min=1) if self.learn == "element" else total.sum(0, True) / count.sum()
        self.log_variance.copy_((variance - self.floor**2).clamp(min=self.floor**2).log())
