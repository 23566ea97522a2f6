"""Bounds of other divergences than KL(q || p): Rényi, chi, and f-divergences in general."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from curvae.objectives.importance import ImportanceBound
from curvae.objectives.objective import Kind, log_mean_exp
from curvae.typing import PerDatum


@dataclass(frozen=True)
class Renyi(ImportanceBound):
    """``1/(1 - alpha) log E_q[w^(1 - alpha)]``, from draws ``1/(1 - alpha) log sum_s exp(log_c_s) w_s^(1 - alpha)``.

    alpha = 1 is the ELBO, alpha = 0 the importance-weighted bound; in between it grows as alpha falls, and above 1 it
    is looser than the ELBO. For alpha >= 0 it is a lower bound of log p(x) with any number of draws. Below 0 it is an
    upper bound only of infinitely many draws and estimated too low from fewer: no bound; what is reported then is the
    importance-weighted bound of the same draws.

    Args:
        alpha: order of the divergence.

    Reference: Li and Turner, 2016, arXiv:1602.02311.

    Example:
        >>> log_w, log_c = torch.log(torch.tensor([[1.0], [9.0]])), torch.full((2, 1), 0.5).log()
        >>> f"{Renyi(0.5).combine(log_w, log_c).exp().item():.4f}"   # (1/2 (sqrt 1 + sqrt 9))^2
        '4.0000'
        >>> Renyi(2.0).kind, Renyi(-1.0).kind
        ('lower', 'none')
    """

    alpha: float

    @property
    def kind(self) -> Kind:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "lower" if self.alpha >= 0 else "none"

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return log_power_mean(log_w, log_c, 1 - self.alpha)


@dataclass(frozen=True)
class Cubo(ImportanceBound):
    """The posterior descends ``CUBO_n = 1/n log E_q[w^n]``, an upper bound of log p(x) by the chi divergence.

    A model cannot learn from an upper bound, so the decoder ascends the importance-weighted bound of the same draws,
    which is reported too; the upper bound stands in ``info["upper_bound"]``. It is one for infinitely many draws: its
    estimate from S of them errs low, the more so the worse q is.

    Args:
        order: n.

    Raises:
        ValueError: order not above 1.

    Reference: Dieng et al., 2017, arXiv:1611.00328. Differences: they descend ``exp(n CUBO_n)``, whose estimate is
    unbiased; here it is the logarithm, which weighs all data alike.

    Example:
        >>> Cubo().kind, Cubo().order
        ('upper', 2.0)
    """

    order: float = 2.0
    kind: ClassVar[Kind] = "upper"

    def __post_init__(self) -> None:
        if not self.order > 1:
            raise ValueError(f"Cubo: order must be above 1; got {self.order}. At 1 it is log p(x) itself: use Iwae.")

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        return log_mean_exp(log_w, log_c)

    def for_posterior(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        """``-CUBO_n``."""
        return -log_power_mean(log_w, log_c, self.order)


def kullback_leibler(u: Tensor) -> Tensor:
    """``-log t`` at ``t = exp(u)``: gives the ELBO."""
    return -u


def hellinger(u: Tensor) -> Tensor:
    """``-sqrt t`` at ``t = exp(u)``: gives the Rényi bound of order 1/2."""
    return -(u / 2).exp()


def jensen_shannon_generator(u: Tensor) -> Tensor:
    """``t log t - (1 + t) log((1 + t) / 2)`` at ``t = exp(u)``, falling for u < 0."""
    half = softplus(u) - math.log(2)
    return u.exp() * (u - half) - half


@dataclass(frozen=True)
class FDivergence(ImportanceBound):
    """``r + psi^-1(E_q[psi(log w - r)])``, ``r = log sum_s w_s``: the mean of the weights generalized by psi.

    With ``psi(u) = f*(exp u)`` and ``f*(t) = t f(1/t)`` convex, ``E_q[f*(w)] >= f*(p(x))`` (Jensen); where f* falls,
    its inverse turns that into a lower bound of log p(x). As the generalized mean of a falling convex function never
    exceeds the arithmetic one, this holds with any number of draws, and in any unit of the weights, here their sum.

    The inverse is found between the least and the largest log weight by bisection, and polished by two Newton steps
    that carry its first and second derivatives. Where psi is flat to rounding, the arithmetic mean caps it.

    Args:
        generator: psi, which takes and gives tensors of any shape; convex in ``exp u`` and falling for u < 0.

    Reference: after Wan et al., 2020, arXiv:2009.13093. Differences: the weights are scaled by their sum, which keeps
    them on the falling branch; of generators that rise, which give upper bounds, there is :class:`Cubo`.

    Example:
        >>> log_w, log_c = torch.log(torch.tensor([[1.0], [9.0]])), torch.full((2, 1), 0.5).log()
        >>> f"{FDivergence(hellinger).combine(log_w, log_c).exp().item():.4f}"   # as Renyi(0.5)
        '4.0000'
    """

    generator: Callable[[Tensor], Tensor] = jensen_shannon_generator

    def combine(self, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
        unit = torch.logsumexp(log_w, 0)
        u = log_w - unit
        mean, cap = _inverse_mean(self.generator, u, log_c), log_mean_exp(u, log_c)
        return unit + torch.where(mean > cap + torch.finfo(u.dtype).eps ** 0.5, cap, mean)


def log_power_mean(log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"], power: float) -> PerDatum:
    """``1/power log sum_s exp(log_c_s) w_s^power``, its limit ``sum_s exp(log_c_s) log w_s`` at power 0.

    The mean of the log weights is taken out first: small powers lose no digits.
    """
    mean = (log_c.exp() * log_w).sum(0)
    if power == 0:
        return mean
    return mean + torch.logsumexp(log_c + power * (log_w - mean), 0) / power


def _inverse_mean(psi: Callable[[Tensor], Tensor], u: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> PerDatum:
    """The m with ``psi(m) = sum_s exp(log_c_s) psi(u_s)``, psi falling, u <= 0."""
    level = (log_c.exp() * psi(u)).sum(0)
    m = _bisected(psi, level.detach(), u.detach().amin(0), u.detach().amax(0))
    slope = torch.func.grad(lambda at: psi(at).sum())
    for _ in range(2):
        steep = slope(m)
        m = m - torch.where(steep < 0, (psi(m) - level) / torch.where(steep < 0, steep, -torch.ones_like(steep)), 0)
    return m


def _bisected(psi: Callable[[Tensor], Tensor], level: Tensor, low: Tensor, high: Tensor) -> Tensor:
    steps = 60 if level.dtype == torch.float64 else 30
    for _ in range(steps):
        middle = 0.5 * (low + high)
        above = psi(middle) > level  # psi falls: the root lies further up
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return 0.5 * (low + high)
