"""Increasing maps of the line, the pieces of autoregressive flows: what a network's outputs do to each dimension."""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform
from torch.nn.functional import logsigmoid
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from curvae.argument_checks import check_least

OPEN = 2.0
"""A gate whose network says 0 keeps ``sigmoid(2)``, 88 %, of z."""


class Univariate(NamedTuple):
    """A family of increasing maps.

    Args:
        make: from free parameters, each of shape (..., D, *shape), to the map.
        shapes: of the parameters of one dimension.
        slope: log of what z is multiplied by where all parameters are 0.
    """

    make: Callable[..., Transform]
    shapes: tuple[tuple[int, ...], ...]
    slope: float = 0.0


def affine() -> Univariate:
    """``z <- m + exp(s) z``, s softly bounded so that scales stay within 1e-3 and 1e3."""
    return Univariate(MonotonicAffineTransform, ((), ()))


def gated() -> Univariate:
    """``z <- g z + (1 - g) m``, ``g = sigmoid(s + 2)``: the gated update of inverse autoregressive flow."""
    return Univariate(Gate, ((), ()), slope=-math.log1p(math.exp(-OPEN)))


def spline(bins: int = 8) -> Univariate:
    """A monotone rational-quadratic spline with so many bins on [-5, 5], the identity outside.

    Reference: Durkan, Bekasov, Murray and Papamakarios, *Neural Spline Flows*, NeurIPS 2019.

    Raises:
        ValueError: fewer than 2 bins.
    """
    check_least("spline", 2, bins=bins)
    return Univariate(MonotonicRQSTransform, ((bins,), (bins,), (bins - 1,)))


class Gate(Transform):
    """``z <- g z + (1 - g) m`` for a mean m and ``g = sigmoid(s + 2)``; ``log dz'/dz = log g`` is never positive.

    Example:
        >>> import torch
        >>> gate = Gate(torch.ones(1), torch.full((1,), -2.0))
        >>> gate(torch.tensor([3.0])).tolist()
        [2.0]
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True

    def __init__(self, mean: Tensor, gate: Tensor):
        super().__init__()
        self.mean = mean
        self.log_gate = logsigmoid(gate + OPEN)

    def _call(self, x: Tensor) -> Tensor:
        return self.mean + (x - self.mean) * self.log_gate.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return self.mean + (y - self.mean) * (-self.log_gate).exp()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log_gate.expand(x.shape)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image and ``log dz'/dz``."""
        return self._call(x), self.log_gate.expand(x.shape)
