"""Gradient ascent, the baseline of the solvers."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.route import Point, Route
from curvae.curvature.search import Backtracking, Seen, StepRule
from curvae.curvature.solvers import Solver
from curvae.curvature.stepwise import Step, stepwise
from curvae.priors import StandardNormal


@dataclass(frozen=True)
class Gradient(Solver):
    """Steps ``a grad log p(x, z)``: each datum tries twice the length a that it accepted last, and is cut back by rule.

    The first a makes the first step ``reach`` long; the prior's scale is 1. A datum is done once
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

    @torch.no_grad()
    def search(
        self, route: Route, z: Float[Tensor, "B D"], steps: int, tolerance: float = 0.0
    ) -> tuple[Float[Tensor, "B D"], list[Seen]]:
        def step(t: int, route: Route, here: Point, length: Tensor) -> Step:
            grad = route.grad_at(here)
            length = self.reach / grad.norm(dim=-1).clamp(min=torch.finfo(z.dtype).tiny) if t == 0 else 2 * length
            direction = length.unsqueeze(-1) * grad
            there, share = self.rule.advance(t, route, here, grad, direction).taken(here)
            # where every shorter step failed, the next begins below them all
            kept = length * torch.where(share > 0, share, 2.0**-9)
            hopeful = torch.linalg.vecdot(direction, grad) > torch.finfo(z.dtype).eps * here.log_joint.abs()
            return Step(grad, there, (_at_most(route, here.z, grad) > tolerance) & hopeful, (kept,))

        return stepwise(route, z, steps, step, z.new_zeros(len(z)))


def _at_most(route: Route, z: Tensor, grad: Tensor) -> Tensor:
    """``1/2 grad' P^-1 grad``: the nats that a Newton step would gain if the likelihood did not bend at all."""
    if isinstance(route.model.prior, StandardNormal):
        return 0.5 * torch.linalg.vecdot(grad, grad)
    factor, _ = linalg.cholesky(route.model.prior.precision(z))
    return 0.5 * torch.linalg.vecdot(grad, linalg.solve_spd(factor, grad))
