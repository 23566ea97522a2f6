"""How the mode of log p(x, z) is sought: what a step is made of, and when a datum is done.

A solver is a value, chosen by object; it is given a route, a start and a number of steps, works without gradients, and
never lowers the log joint unless its step rule does.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.curvature import compiled
from curvae.curvature.bfgs import BFGS
from curvae.curvature.route import Point, Route
from curvae.curvature.search import Backtracking, Seen, StepRule
from curvae.curvature.stepwise import Step, stepwise


class Solver(ABC):
    """A search for the mode from a given point."""

    rule: StepRule
    """How long each step is; also for the last, differentiable one that ``Laplace`` takes itself."""

    @property
    def settles(self) -> bool:
        """Whether to search to the end before the precision is asked for, rather than to end with a Newton step."""
        return False

    @abstractmethod
    def search(
        self, route: Route, z: Float[Tensor, "B D"], steps: int, tolerance: float = 0.0
    ) -> tuple[Float[Tensor, "B D"], list[Seen]]:
        """The point reached by up to ``steps`` steps, and what was seen before each, ``visits(steps)`` at most.

        A datum that can gain ``tolerance`` nats at most is done and left out of what follows.
        """

    def visits(self, steps: int) -> int:
        """The most points seen in so many steps."""
        return steps


@dataclass(frozen=True)
class Newton(Solver):
    """Newton steps ``Lam^-1 grad``, each followed by ``bfgs`` quasi-Newton steps from its factor of Lam.

    A quasi-Newton step needs the gradient only, a few vector products, where Lam needs D of them; it has learned the
    curvature along the steps since then (BFGS), from those tried in vain as well: the gradient beyond a ridge of the
    decoder turns the next step along it. A datum is done when a step promises ``tolerance`` nats at most, or when
    neither a Newton step nor those after it moved it. (On a GPU or in a compiled graph all data take all steps:
    asking who is done would cost more.)
    """

    rule: StepRule = field(default_factory=Backtracking)
    bfgs: int = 8

    def __post_init__(self) -> None:
        if self.bfgs < 0:
            raise ValueError(f"Newton: bfgs must be 0 or more; got {self.bfgs}.")

    def visits(self, steps: int) -> int:
        return steps * (1 + self.bfgs)

    @torch.no_grad()
    def search(
        self, route: Route, z: Float[Tensor, "B D"], steps: int, tolerance: float = 0.0
    ) -> tuple[Float[Tensor, "B D"], list[Seen]]:
        def step(t: int, route: Route, here: Point, point: Point | None = None, *known: Tensor) -> Step:
            if point is None:
                local = route.local_at(here)
                grad, moved, bend = local.grad, None, BFGS.of(local.precision)
            else:
                last, taken, expected, good, moved, *bent = known
                grad = route.grad_at(point)
                bend = BFGS(*bent).after(taken, last - grad, expected, good)
                grad = torch.where(good.unsqueeze(-1), grad, last)
            d = bend.solve(grad)
            tried = self.rule.advance(t, route, here, grad, d)
            there, _ = tried.taken(here)
            gain = torch.linalg.vecdot(grad, d)
            moved = tried.good if moved is None else moved | tried.good
            going = 0.5 * gain > tolerance
            if (t + 1) % self.visits(1) == 0:
                return Step(grad, there, going & moved)
            taken, expected = tried.length.unsqueeze(-1) * d, tried.length.square() * gain
            return Step(grad, there, going, (tried.point, grad, taken, expected, tried.good, moved, *bend))

        visits = self.visits(steps)
        found = compiled.search(route, z, visits, self.visits(1), self.rule, tolerance)
        return stepwise(route, z, visits, step) if found is None else found
