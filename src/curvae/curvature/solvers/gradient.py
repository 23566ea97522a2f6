"""Gradient ascent, the baseline of the solvers."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Linearization
from curvae.curvature.solvers.line_search import Backtracking, StepRule
from curvae.curvature.solvers.solver import Solver, State, Step
from curvae.priors import StandardNormal


@dataclass(frozen=True)
class Gradient(Solver):
    """Steps ``a grad log p(x, z)``: each tries twice the length a that it accepted last, and is cut back by rule.

    The first a makes the first step ``reach`` long; the prior's scale is 1. An example is done once
    ``1/2 grad' P^-1 grad <= tolerance`` with the prior's precision ``P <= Lam``: no more can be left to gain.

    Args:
        rule: how far each step is cut back.
        reach: length of the first step that is tried, in latent units.

    Raises:
        ValueError: ``reach`` not positive.

    Example:
        >>> Gradient().visits(steps=20)
        20
    """

    rule: StepRule = field(default_factory=Backtracking)
    reach: float = 1.0

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise ValueError(f"Gradient: reach must be positive; got {self.reach}.")

    def init(self, here: Linearization) -> tuple[Linearization, State]:
        return here, ()

    def step(self, t: int, here: Linearization, state: State) -> Step:
        grad = here.grad()
        tiny, eps = torch.finfo(grad.dtype).tiny, torch.finfo(grad.dtype).eps
        length = 2 * state[0] if state else self.reach / grad.norm(dim=-1).clamp(min=tiny)
        direction = length.unsqueeze(-1) * grad
        there, share = self.rule.advance(t, here, grad, direction).taken(here)
        # where every shorter step failed, the next begins below them all
        kept = length * torch.where(share > 0, share, 2.0**-9)
        hopeful = torch.linalg.vecdot(direction, grad) > eps * here.log_joint.abs()
        return Step(grad, there, _at_most(here, grad), hopeful, (kept,))


def _at_most(here: Linearization, grad: Tensor) -> Tensor:
    """``1/2 grad' P^-1 grad``: the nats that a Newton step would gain if the likelihood did not bend at all."""
    if isinstance(here.model.prior, StandardNormal):
        return 0.5 * torch.linalg.vecdot(grad, grad)
    factor, _ = linalg.cholesky(here.model.prior.precision(here.z))
    return 0.5 * torch.linalg.vecdot(grad, linalg.solve_spd(factor, grad))
