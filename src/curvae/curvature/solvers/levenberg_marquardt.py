"""Levenberg-Marquardt: damped Newton steps, whose damping each example finds for itself."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Linearization, LocalExpansion
from curvae.curvature.solvers.line_search import Backtracking, StepRule
from curvae.curvature.solvers.solver import Solver, State, Step
from curvae.typing import PerDatum


@dataclass(frozen=True)
class LevenbergMarquardt(Solver):
    """Steps ``(Lam + lambda U) d = grad``, with ``U = diag Lam`` or its mean times the identity.

    A step that does not raise the log joint is not taken; it is tried again with more damping, at the price of a
    factorization and a log joint. By the gain ratio ``rho = gained / predicted`` of an accepted step, lambda is
    multiplied by ``max(1/3, 1 - (2 rho - 1)^3)``; after a rejected one by 2, 4, 8, ... (Nielsen, *Damping parameter in
    Marquardt's method*, 1999). Unlike a shorter Newton step, a damped one also turns towards the gradient.

    Args:
        rule: not used by the search; how long the last step is that ``Laplace`` takes.
        damping: the first lambda, in units of U.
        diagonal: ``U = diag Lam``, which does not depend on the scales of the latents; False takes the identity.
        tries: how often a step is tried before Lam is formed anew.

    Raises:
        ValueError: damping not positive, or fewer than 1 try.

    Example:
        >>> LevenbergMarquardt(diagonal=False).damping
        0.01
    """

    rule: StepRule = field(default_factory=Backtracking)
    damping: float = 1e-2
    diagonal: bool = True
    tries: int = 8

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise ValueError(f"LevenbergMarquardt: damping must be positive; got {self.damping}.")
        if self.tries < 1:
            raise ValueError(f"LevenbergMarquardt: tries must be 1 or more; got {self.tries}.")

    def init(self, here: Linearization) -> tuple[Linearization, State]:
        return here, (here.z.new_full((len(here.z),), self.damping), here.z.new_full((len(here.z),), 2.0))

    def step(self, t: int, here: Linearization, state: State) -> Step:
        local = here.local()
        tried = self._retried(here, local, self._try(here, local, *state))
        left = torch.where(tried.failed, torch.inf, tried.left)
        return Step(local.grad, tried.there, left, None, (tried.damping, tried.growth))

    def _retried(self, here: Linearization, local: LocalExpansion, tried: "_Trial") -> "_Trial":
        """With more damping, and more, where the step has failed."""
        for _ in range(self.tries - 1):
            if not linalg.can_sync(tried.failed):
                again = self._try(here, local, tried.damping, tried.growth)
                tried = again.where(tried.failed, tried)
                continue
            rows = tried.failed.nonzero().squeeze(-1)
            if len(rows) == 0:
                break
            part = LocalExpansion(*(value[rows] for value in local))
            tried = tried.updated(rows, self._try(here.take(rows), part, tried.damping[rows], tried.growth[rows]))
        return tried

    def _try(self, here: Linearization, local: LocalExpansion, damping: Tensor, growth: Tensor) -> "_Trial":
        d, predicted = self._damped(local, damping)
        there = here.at(here.z + d)
        rho = (there.log_joint - local.log_joint) / predicted
        good = (rho > 1e-4) & rho.isfinite()
        # damping hides what is left: undone as if Lam were its diagonal
        left = torch.where(good, 0.5 * (1 + damping) * torch.linalg.vecdot(local.grad, d), 0.0)
        less = (1 - (2 * rho.clamp(0, 1) - 1) ** 3).clamp(min=1 / 3)
        hopeful = predicted > torch.finfo(d.dtype).eps * local.log_joint.abs()
        return _Trial(
            there.where(good, here),
            left,
            damping * torch.where(good, less, growth),
            torch.where(good, 2.0, 2 * growth),
            ~good & hopeful,
        )

    def _damped(self, here: LocalExpansion, lam: PerDatum) -> tuple[Float[Tensor, "B D"], PerDatum]:
        """The damped step d, and what the quadratic model says that it gains, ``1/2 d'(grad + lambda U d)``."""
        unit = here.precision.diagonal(dim1=-2, dim2=-1)
        unit = unit if self.diagonal else unit.mean(-1, keepdim=True).expand_as(unit)
        extra = lam.unsqueeze(-1) * unit
        factor, _ = linalg.cholesky(here.precision + torch.diag_embed(extra))
        d = linalg.solve_spd(factor, here.grad)
        return d, 0.5 * (d * (here.grad + extra * d)).sum(-1)


class _Trial(NamedTuple):
    """What a try gave."""

    there: Linearization
    """The point reached; the old one where the try failed."""
    left: PerDatum
    """The nats that there were to gain; 0 where the try failed."""
    damping: PerDatum
    growth: PerDatum
    failed: Bool[Tensor, " B"]
    """And is worth another."""

    def where(self, chosen: Bool[Tensor, " B"], other: "_Trial") -> "_Trial":
        """These where chosen, the other's elsewhere."""
        values = (torch.where(chosen, mine, others) for mine, others in zip(self[1:], other[1:], strict=True))
        return _Trial(self.there.where(chosen, other.there), *values)

    def updated(self, rows: Int[Tensor, " n"], part: "_Trial") -> "_Trial":
        """With some of the data replaced."""
        values = (old.index_copy(0, rows, new) for old, new in zip(self[1:], part[1:], strict=True))
        return _Trial(self.there.updated(rows, part.there), *values)
