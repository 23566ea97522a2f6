"""Discretized logistic likelihood: values on a grid, such as grey levels, as cells of a logistic law."""

import math

import torch
from torch import Tensor

from curvae.likelihoods.elementwise import Elementwise, Learned, PositiveParameter, moments
from curvae.likelihoods.likelihood import masked
from curvae.likelihoods.ordinal import OUTSIDE, log_cell, logistic_noise
from curvae.linear import LinearGaussian, ppca


class DiscretizedLogistic(Elementwise):
    r"""Values on a grid: the mass of a logistic law of location eta and scale s in the cell of width w around each.

    The first and the last cell reach to infinity. The information about eta is ``(1 - sum_k p_k^3) / (3 s^2)``.

    Reference: Salimans, Karpathy, Chen and Kingma, *PixelCNN++*, ICLR 2017, section 2.1.

    Args:
        event: size or shape of one example.
        low: the first value.
        high: the last one.
        levels: number of values; the width is ``(high - low) / (levels - 1)``.
        scale: s, fixed; or where a learned one starts. Left out, a learned one starts from the data.
        learn: ``None`` fixed, ``"shared"`` one for all elements, ``"element"`` one for each.

    Raises:
        ValueError: fewer than two levels, high not above low, or a scale that is not above a hundredth of the width.

    Example:
        >>> import torch
        >>> likelihood = DiscretizedLogistic(1, levels=3, scale=0.5, learn=None)    # values 0, 0.5 and 1
        >>> f"{likelihood.log_prob(torch.tensor([[0.5]]), torch.full((1, 1), 0.5)).exp().item():.4f}"
        '0.2449'
    """

    def __init__(
        self,
        event: int | tuple[int, ...],
        low: float = 0.0,
        high: float = 1.0,
        levels: int = 256,
        scale: float | None = None,
        learn: Learned = "shared",
    ):
        super().__init__(event)
        if levels < 2 or not high > low:
            raise ValueError(f"DiscretizedLogistic: expected low < high and 2 levels or more; got {low, high, levels}.")
        self.low, self.high, self.levels, self.width = low, high, levels, (high - low) / (levels - 1)
        self.stand_in = low
        self.starts_from_data = learn is not None and scale is None
        self.scale = PositiveParameter(self.size, scale or 0.25 * (high - low), learn, floor=0.01 * self.width)

    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor:
        return log_cell(*self._ends(x, eta))

    def _score(self, x: Tensor, eta: Tensor) -> Tensor:
        high, low = self._ends(x, eta)
        return (high.sigmoid() + low.sigmoid() - 1) / self.scale.value

    def _root(self, eta: Tensor) -> Tensor:
        cubes, before = torch.zeros_like(eta), torch.zeros_like(eta)
        for level in range(self.levels - 1):
            below = self._below(level, eta)
            cubes, before = cubes + (below - before).pow(3), below
        cubes = cubes + (1 - before).pow(3)
        return ((1 - cubes).clamp(min=1e-12) / 3).sqrt() / self.scale.value

    def bound(self, v: Tensor) -> Tensor:
        return math.sqrt(0.5) * v / self.scale.value

    def mean(self, eta: Tensor) -> Tensor:
        """Of the value: the last one less a width for each cell that ends above."""
        below = torch.zeros_like(eta)
        for level in range(self.levels - 1):
            below = below + self._below(level, eta)
        return self.unflat(self.high - self.width * below)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        drawn = eta + self.scale.value * logistic_noise(eta, generator)
        level = ((drawn - self.low) / self.width).round().clamp(0, self.levels - 1)
        return self.unflat(self.low + level * self.width)

    @torch.no_grad()
    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """A learned scale starts where the deviation is that of the data around their mean, unless it was given."""
        if self.starts_from_data:
            _, variance, count = moments(self.flat(x), None if mask is None else self.flat(mask))
            self._put_variance(variance, count)

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """A learned scale becomes the likeliest given eta."""
        x, eta, mask = self._seen(x, mask).double(), eta.double(), None if mask is None else self.flat(mask)
        self.scale.maximize(lambda s: masked(log_cell(*_around(x, eta, s, self.width, self._edges(x))), mask))

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components."""
        return (ppca(self.flat(x), latent, None if mask is None else self.flat(mask)),)

    @torch.no_grad()
    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Location and variance of the model; not exact."""
        if self.starts_from_data:
            self._put_variance(model.noise, torch.ones_like(model.noise))
        return model.weight, model.mean

    def _below(self, level: int, eta: Tensor) -> Tensor:
        """The mass of a value and of all before it."""
        return ((self.low + (level + 0.5) * self.width - eta) / self.scale.value).sigmoid()

    def _put_variance(self, variance: Tensor, weight: Tensor) -> None:
        self.scale.put((3 * variance).sqrt() / math.pi, weight)

    def _ends(self, x: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        return _around(x, eta, self.scale.value, self.width, self._edges(x))

    def _edges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whether x is the last value, or the first."""
        half = 0.5 * self.width
        return x > self.high - half, x < self.low + half


def _around(x: Tensor, eta: Tensor, scale: Tensor, width: float, edges: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Upper and lower end of the cell of x, in scales from eta."""
    offset, half, (last, first) = (x - eta) / scale, 0.5 * width / scale, edges
    far = torch.full_like(offset, OUTSIDE)
    return torch.where(last, far, offset + half), torch.where(first, -far, offset - half)
