"""Kullback-Leibler divergences in closed form, registered by the classes of the two laws."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from curvae.distributions.discrete_posteriors import IndependentCategorical
from curvae.distributions.gaussian import DiagonalGaussian, GaussianPosterior

Formula = TypeVar("Formula", bound=Callable[..., Tensor | None])

_FORMULAS: dict[tuple[type, type], Callable[[Any, Any], Tensor | None]] = {}


def register_kl(of: type, to: type) -> Callable[[Formula], Formula]:
    """Register the closed form of ``KL(q || p)`` for q and p of these classes, and of classes derived from them.

    The formula gives nats for each block of z, (B, blocks), or None where that pair has no closed form.

    Example:
        >>> import torch
        >>> class Point: ...
        >>> @register_kl(Point, Point)
        ... def _(q, p):
        ...     return torch.zeros(1, 1)
        >>> kl(Point(), Point()).tolist(), kl(Point(), 0)
        ([[0.0]], None)
    """

    def mark(formula: Formula) -> Formula:
        _FORMULAS[of, to] = formula
        _formula.cache_clear()
        return formula

    return mark


def kl(q: Any, p: Any) -> Float[Tensor, "*B blocks"] | None:
    """``KL(q || p)`` in nats for each block of z, or None where no closed form is known; p is a law or a prior.

    Of several formulas that fit, that of the nearest class of q is taken, and of these that of the nearest class of p.

    Example:
        >>> import torch
        >>> from curvae.priors import StandardNormal
        >>> kl(DiagonalGaussian(torch.ones(1, 2), torch.zeros(1, 2)), StandardNormal(2)).tolist()
        [[1.0]]
    """
    formula = _formula(type(q), type(p))
    return None if formula is None else formula(q, p)


@functools.cache
def _formula(of: type, to: type) -> Callable[[Any, Any], Tensor | None] | None:
    pairs = ((one, other) for one in of.__mro__ for other in to.__mro__)
    return next((_FORMULAS[pair] for pair in pairs if pair in _FORMULAS), None)


def normal_kl(offset: Float[Tensor, "*B D"], log_ratio: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """``KL(N(m, s^2) || N(m', s'^2))`` of each dimension, by ``(m - m') / s'`` and ``log(s / s')``.

    Example:
        >>> import torch
        >>> normal_kl(torch.tensor([2.0]), torch.tensor([0.0])).item()
        2.0
    """
    return 0.5 * (offset.square() + (2 * log_ratio).exp() - 1) - log_ratio


@register_kl(DiagonalGaussian, DiagonalGaussian)
def _diagonal(q: DiagonalGaussian, p: DiagonalGaussian) -> Float[Tensor, "*B 1"]:
    each = normal_kl((q.loc - p.loc) * (-p.log_scale).exp(), q.log_scale - p.log_scale)
    return each.sum(-1, keepdim=True)


@register_kl(GaussianPosterior, GaussianPosterior)
def _gaussian(q: GaussianPosterior, p: GaussianPosterior) -> Float[Tensor, "B 1"]:
    """``1/2 (|C_p^-1 C_q|^2 + |C_p^-1 (m_q - m_p)|^2 - D) + 1/2 log det p - 1/2 log det q``: as much as D draws."""
    spread = p.whiten(q.columns).square().sum((0, 2))
    offset = p.whiten((q.loc - p.loc).unsqueeze(0)).square().sum((0, 2))
    return (0.5 * (spread + offset - q.loc.shape[-1]) + p.half_log_det - q.half_log_det).unsqueeze(-1)


@register_kl(IndependentCategorical, IndependentCategorical)
def _categorical(q: IndependentCategorical, p: IndependentCategorical) -> Float[Tensor, "*B 1"]:
    log_q = q.logits.log_softmax(-1)
    return (log_q.exp() * (log_q - p.logits.log_softmax(-1))).sum((-2, -1)).unsqueeze(-1)
