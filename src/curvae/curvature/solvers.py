"""How the mode of log p(x, z) is sought: what a step is made of, and when a datum is done.

A solver is a value, chosen by object; it is given a route, a start and a number of steps, works without gradients, and
never lowers the log joint unless its step rule does.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.route import Local, Route
from curvae.curvature.search import Backtracking, Seen, StepRule


class Solver(ABC):
    """A search for the mode from a given point."""

    rule: StepRule
    """How long each step is; also for the last, differentiable one that ``Laplace`` takes itself."""

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
    """Newton steps ``Lam^-1 grad``, each followed by ``chords`` chord steps, which keep its factor of Lam.

    A chord step needs the gradient only, a few vector products, where Lam needs D of them.
    """

    rule: StepRule = field(default_factory=Backtracking)
    chords: int = 2

    def __post_init__(self) -> None:
        if self.chords < 0:
            raise ValueError(f"Newton: chords must be 0 or more; got {self.chords}.")

    def visits(self, steps: int) -> int:
        return steps * (1 + self.chords)

    @torch.no_grad()
    def search(
        self, route: Route, z: Float[Tensor, "B D"], steps: int, tolerance: float = 0.0
    ) -> tuple[Float[Tensor, "B D"], list[Seen]]:
        seen: list[Seen] = []
        rows = torch.arange(len(z), device=z.device)
        for _ in range(steps):
            at = z[rows]
            here = route.local(at)
            factor, _ = linalg.cholesky(here.precision)
            going = torch.zeros_like(rows, dtype=torch.bool)
            for chord in range(1 + self.chords):
                if chord:
                    here = Local(*route.slope(at), here.precision)
                step = linalg.solve_spd(factor, here.grad)
                length = self.rule.length(len(seen), route, at, here, step)
                seen.append(seen[-1].updated(rows, Seen.of(here)) if seen else Seen.of(here))
                at = at + length.unsqueeze(-1) * step
                going = going | ((0.5 * (here.grad * step).sum(-1) > tolerance) & (length != 0))
            z = z.index_copy(0, rows, at)
            left = going.nonzero().squeeze(-1)
            if len(left) == 0:
                break
            if len(left) < len(rows):
                rows, route = rows[left], route.take(left)
        return z, seen
