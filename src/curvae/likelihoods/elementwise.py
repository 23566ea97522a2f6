"""Likelihoods of independent elements with one natural parameter each, and the positive parameters of their own."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from curvae.likelihoods.likelihood import Likelihood, masked

Learned = Literal["shared", "element"] | None
"""Whether a parameter of the likelihood's own is fixed, one for all elements, or one for each."""
ROUNDS = 30
"""Of Newton's method, for a parameter given eta."""
LEAST, MOST = -20.0, 10.0
"""Of the logarithm that it looks at: beyond, log-gamma functions of nearly the same arguments cancel."""


class Elementwise(Likelihood):
    """``p(x | eta) = prod_e p(x_e | eta_e)``: the information about eta is a diagonal matrix.

    For authors: implement ``_log_prob``, ``_score`` and ``_root``, the root of the information, for one element each,
    all flat ``(*L, E)``; :attr:`stand_in` is any value of the support.
    """

    stand_in: float = 0.0
    """What the functions of one element see in the place of a value that is missing."""

    def __init__(self, event: int | tuple[int, ...]):
        super().__init__(event)
        self.information = "diagonal"

    @abstractmethod
    def _log_prob(self, x: Tensor, eta: Tensor) -> Tensor: ...

    @abstractmethod
    def _score(self, x: Tensor, eta: Tensor) -> Tensor: ...

    @abstractmethod
    def _root(self, eta: Tensor) -> Tensor: ...

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        each = self._log_prob(self._seen(x, mask), eta)
        return masked(each, None if mask is None else self.flat(mask)).sum(-1).to(eta.dtype)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked(self._score(self._seen(x, mask), eta), None if mask is None else self.flat(mask))

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked(v * self._root(eta), None if mask is None else self.flat(mask))

    def _seen(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Flat, and of the support everywhere."""
        x = self.flat(x)
        return x if mask is None else torch.where(self.flat(mask), x, torch.full_like(x, self.stand_in))


class PositiveParameter(nn.Module):
    """A positive parameter of a likelihood, ``floor + exp(log_excess)``: (1,) or one for each element, (E,).

    Args:
        size: E.
        start: where it starts, or what it is.
        learn: fixed, one for all elements, or one for each.
        floor: the least value that learning can reach.

    Raises:
        ValueError: no such ``learn``; a start that is not above the floor.

    Example:
        >>> round(PositiveParameter(3, 2.0, "shared", floor=0.5).value.item(), 4)
        2.0
    """

    log_excess: Tensor

    def __init__(self, size: int, start: float, learn: Learned, floor: float = 0.0):
        super().__init__()
        if learn not in (None, "shared", "element"):
            raise ValueError(f"learn: expected None, 'shared' or 'element'; got {learn!r}.")
        if not start > floor:
            raise ValueError(f"expected a value above {floor}; got {start}.")
        self.learn, self.floor = learn, floor
        first = torch.full((size if learn == "element" else 1,), math.log(start - floor))
        if learn:
            self.log_excess = nn.Parameter(first)
        else:
            self.register_buffer("log_excess", first, persistent=False)

    @property
    def value(self) -> Float[Tensor, " E"]:
        """(1,) or (E,)."""
        return self.floor + self.log_excess.exp()

    @torch.no_grad()
    def put(self, value: Float[Tensor, " E"], weight: Float[Tensor, " E"] | None = None) -> None:
        """Take these values, one an element; the weighted mean of them where one serves all. A fixed one stays."""
        if not self.learn:
            return
        if self.learn == "shared" and len(value) > 1:
            weight = torch.ones_like(value) if weight is None else weight
            value = ((value * weight).sum() / weight.sum()).unsqueeze(0)
        self.log_excess.copy_((value - self.floor).clamp(min=1e-6 * max(1.0, self.floor)).log())

    def maximize(self, log_prob: Callable[[Tensor], Tensor]) -> None:
        """Go to where a sum is highest, by Newton's method in the logarithm, with steps that must lead up.

        Args:
            log_prob: the parameter (1,) or (E,) to terms (*L, E), each of them a function of its own element's.
        """
        if not self.learn:
            return

        def total(log_excess: Tensor) -> Tensor:
            each = log_prob(self.floor + log_excess.exp())
            each = each.reshape(-1, each.shape[-1]).sum(0)
            return each if self.learn == "element" else each.sum(0, keepdim=True)

        here = self.log_excess.detach().double()
        with torch.no_grad():
            self.log_excess.copy_(_climb(total, here))


def _climb(total: Callable[[Tensor], Tensor], here: Tensor) -> Tensor:
    """Newton's method for many functions of one variable at once; each step at most 1, halved until it leads up."""
    with torch.no_grad():
        value, most = total(here), torch.ones_like(here)
    for _ in range(ROUNDS):
        slope, curvature = _derivatives(total, here)
        step = torch.where(curvature < 0, -slope / curvature, slope.sign())
        step = torch.minimum(torch.maximum(step, -most), most)
        with torch.no_grad():
            there = total((here + step).clamp(LEAST, MOST))
        better = there >= value
        most = torch.where(better, most, step.abs() / 2)
        here, value = torch.where(better, (here + step).clamp(LEAST, MOST), here), torch.where(better, there, value)
        if bool((step.abs() < 1e-7).all()):
            break
    return here


def _derivatives(total: Callable[[Tensor], Tensor], here: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        point = here.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(total(point).sum(), point, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), point)
    return slope.detach(), curvature


def in_float64(*values: Tensor) -> tuple[Tensor, ...]:
    """In float64, where the device has it: terms of the size of x log x cancel in the density of a count."""
    return tuple(value if value.device.type == "mps" else value.double() for value in values)


def standard_gamma(shape: Tensor, generator: Generator | None) -> Tensor:
    """Draws of gamma laws of scale 1, one for each shape; above 0."""
    drawn = torch._standard_gamma(shape.detach().contiguous(), generator=generator)  # pyright: ignore[reportPrivateImportUsage]
    return drawn.clamp(min=torch.finfo(shape.dtype).tiny)


def moments(x: Float[Tensor, "N E"], mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and number of the observed values of each element, (E,) each."""
    seen = torch.ones_like(x) if mask is None else mask.to(x.dtype)
    count = seen.sum(0)
    mean = masked(x, seen > 0).sum(0) / count.clamp(min=1)
    variance = masked((x - mean).square(), seen > 0).sum(0) / count.clamp(min=1)
    return mean, variance, count
