"""Elementwise, invertible maps with their log-determinants."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from curvae.data.errors import DataError
from curvae.data.stored import Raw
from curvae.data.transforms.base import ROWS, Chain, Meaning, Transform
from curvae.memory import blocks


@dataclass(frozen=True, eq=False)
class Identity(Transform):
    """Data as they are, ``y = raw``."""

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        return raw

    def _backward(self, y: Tensor) -> Tensor:
        return y

    def _log_slope(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y)


@dataclass(frozen=True, eq=False)
class Scale(Transform):
    """Integer grey levels to pixels in [0, 1], ``y = factor * raw``: a choice of *unit*.

    The density is stated over the scaled values, so the log-determinant is 0 although ``dy/draw = factor``.

    >>> pixels = Scale(1 / 255)
    >>> pixels(torch.tensor([[0, 51, 255]], dtype=torch.uint8))
    tensor([[0.0000, 0.2000, 1.0000]])
    >>> pixels.unit
    'pixels in [0,1], not dequantized'
    """

    factor: float | int

    def __post_init__(self):
        if not self.factor > 0:
            raise DataError(f"Scale: expected factor > 0, got {self.factor}; for 8-bit images pass 1 / 255.")

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        return raw * self.factor

    def _backward(self, y: Tensor) -> Tensor:
        return y / self.factor

    def _log_slope(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    @property
    def _meaning(self) -> Meaning:
        return Meaning("pixels in [0,1], not dequantized", peak=1 / self.factor, levels=1 / self.factor)


@dataclass(frozen=True, eq=False)
class MeanSubtraction(Transform):
    """Every element minus its mean over the training data, ``y = raw - mean``; volume preserving.

    >>> MeanSubtraction.fit(torch.tensor([[0.0, 1.0], [1.0, 5.0]])).mean
    tensor([0.5000, 3.0000], dtype=torch.float64)
    """

    mean: Tensor

    @classmethod
    def fit(cls, x: Raw, mask: Raw | None = None) -> "MeanSubtraction":
        """Mean of the observed rows of ``x`` ``(N, *event)``; 0 where an element is never observed."""
        return cls(_mean(x, mask))

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        return raw - self.mean.to(raw)

    def _backward(self, y: Tensor) -> Tensor:
        return y + self.mean.to(y)

    def _log_slope(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y)


@dataclass(frozen=True, eq=False)
class Standardization(Transform):
    """Every element to mean 0 and variance 1 over the training data, ``y = (raw - mean) / scale``.

    An element that never varies keeps scale 1. The scale is the root of the population variance (``/ N``).

    >>> y = Standardization.fit(torch.tensor([[0.0, 7.0], [2.0, 7.0]]))
    >>> y(torch.tensor([[3.0, 7.0]]))
    tensor([[2., 0.]])
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, x: Raw, mask: Raw | None = None) -> "Standardization":
        """Moments of the observed rows of ``x`` ``(N, *event)``."""
        mean, variance = column_moments(x, mask)
        constant = variance <= (1e-12 * mean).square()
        return cls(mean, torch.where(constant, 1.0, variance.sqrt()))

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        return (raw - self.mean.to(raw)) / self.scale.to(raw)

    def _backward(self, y: Tensor) -> Tensor:
        return y * self.scale.to(y) + self.mean.to(y)

    def _log_slope(self, y: Tensor) -> Tensor:
        return -self.scale.to(y).log().expand_as(y)


@dataclass(frozen=True, eq=False)
class Dequantization(Transform):
    """Uniform noise on integer grey levels, ``y = (raw + u) / levels`` in (0, 1) with ``u ~ U(0, 1)``.

    ``log |dy/draw| = -log(levels)`` per element; the expected log-density of ``raw + u`` bounds the
    log-probability of the integers from below (Theis et al., 2016, section 3.1). The inverse takes the noise off.

    >>> Dequantization(256).log_det(torch.full((1, 2), 0.3))
    tensor([-11.0904])
    """

    levels: int = 256

    def __post_init__(self):
        if self.levels < 2:
            raise DataError(f"Dequantization: expected levels >= 2, got {self.levels}; pass 256 for 8-bit images.")

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        edge = self.levels * 2.0**-22  # keeps y inside its level, and off 0 and 1, in float32
        return (raw + _noise(raw, generator).clamp(edge, 1 - edge)) / self.levels

    def _backward(self, y: Tensor) -> Tensor:
        return (y * self.levels).floor().clamp(0, self.levels - 1)

    def _log_slope(self, y: Tensor) -> Tensor:
        return torch.full_like(y, -log(self.levels))

    @property
    def _meaning(self) -> Meaning:
        unit = f"grey levels 0..{self.levels - 1}, dequantized with uniform noise"
        return Meaning(unit, peak=self.levels - 1.0, random=True)


@dataclass(frozen=True, eq=False)
class Logit(Transform):
    """The unit interval to the real line, ``y = logit(p)`` with ``p = margin + (1 - 2 margin) raw``.

    ``log dy/draw = log(1 - 2 margin) + softplus(y) + softplus(-y)`` per element.

    >>> Logit(0.05)(torch.tensor([[0.0, 0.5, 1.0]]))
    tensor([[-2.9444,  0.0000,  2.9444]])
    """

    margin: float = 0.05

    def __post_init__(self):
        if not 0 < self.margin < 0.5:
            raise DataError(f"Logit: expected 0 < margin < 0.5, got {self.margin}; 0.05 is usual for images.")

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        return torch.logit(self.margin + (1 - 2 * self.margin) * raw)

    def _backward(self, y: Tensor) -> Tensor:
        return (torch.sigmoid(y) - self.margin) / (1 - 2 * self.margin)

    def _log_slope(self, y: Tensor) -> Tensor:
        return log(1 - 2 * self.margin) + softplus(y) + softplus(-y)


@dataclass(frozen=True, eq=False)
class Binarization(Transform):
    """Pixels in [0, 1] to 0 or 1: above the threshold, or a fresh ``Bernoulli(raw)`` draw in every call.

    Nothing is counted in the log-determinant: the model gives the probability of the binary data themselves.

    >>> Binarization(dynamic=False, threshold=0.5)(torch.tensor([[0.2, 0.7]]))
    tensor([[0., 1.]])
    """

    dynamic: bool
    threshold: float = 0.5

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        return (raw > (_noise(raw, generator) if self.dynamic else self.threshold)).to(raw)

    def _backward(self, y: Tensor) -> Tensor:
        return y

    def _log_slope(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    @property
    def _meaning(self) -> Meaning:
        return Meaning("binary pixels (probabilities, not densities)", random=self.dynamic)


def restore(numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Transform:
    """Rebuild a transform from the two parts of its ``state()``.

    >>> restore(*Chain(Scale(1 / 255), Logit(0.05)).state())
    Chain(parts=(Scale(factor=0.00392156862745098), Logit(margin=0.05)))
    """
    fields = {name: value for name, value in numbers.items() if name != "kind"}
    if numbers.get("kind") == "Chain":
        return Chain(*(restore(part, _under(f"{i}.", tensors)) for i, part in enumerate(fields["parts"])))
    kinds = {kind.__name__: kind for kind in Transform.__subclasses__()}
    if numbers.get("kind") not in kinds:
        raise DataError(
            f"transform: expected a kind out of {sorted(kinds)}, got {numbers.get('kind')!r}; import its own."
        )
    return kinds[numbers["kind"]](**fields, **tensors)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _noise(like: Tensor, generator: Generator | None) -> Tensor:
    """Uniform noise in [0, 1) of the shape, dtype and device of ``like``, drawn where the generator lives."""
    device = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def column_moments(x: Raw, mask: Raw | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance (``/ N``) of each element ``(*event)`` over the rows where it is observed, in float64.

    >>> column_moments(torch.tensor([[1.0, 4.0], [3.0, 4.0]]))
    (tensor([2., 4.], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """
    mean = _mean(x, mask)
    return mean, _mean(x, mask, mean)


def _mean(x: Raw, mask: Raw | None, center: Tensor | None = None) -> Tensor:
    """Mean, or mean square around a center, ``(*event)`` over the observed rows of ``x``, in float64, by blocks."""
    total = torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device)
    count: Tensor | int = 0
    for rows, seen in blocks(x, mask, ROWS):
        terms = rows if center is None else (rows.double() - center).square()
        total += (terms if seen is None else torch.where(seen, terms, 0)).sum(0, dtype=torch.float64)
        count = count + (len(rows) if seen is None else seen.sum(0))
    return total / (count.clamp(min=1) if isinstance(count, Tensor) else count)
