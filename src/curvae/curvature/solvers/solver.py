"""How the mode of log p(x, z) is sought: what a step is made of, and when an example is done.

A solver is a value, chosen by object: ``init`` says what it works on and keeps, ``step`` takes one step. The loop that
calls them, :meth:`Solver.search`, works without gradients and takes no step for an example that is done. It never
lowers the log joint unless its step rule does.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Linearization
from curvae.curvature.solvers import compiled_newton
from curvae.curvature.solvers.bfgs import BFGS
from curvae.curvature.solvers.line_search import Backtracking, StepRule
from curvae.curvature.solvers.mode_search import Record

State = tuple[Any, ...]
"""What a solver keeps of each example from one step to the next: tensors (B, ...) and linearizations."""


class Step(NamedTuple):
    """What one step gave."""

    grad: Float[Tensor, "B D"]
    """The gradient before it."""
    there: Linearization
    """Where it led."""
    left: Float[Tensor, " B"]
    """The nats that it had to gain."""
    going: Bool[Tensor, " B"] | None = None
    """Who may gain more, whatever is left; None: all."""
    state: State = ()


class Solver(ABC):
    """A search for the mode from a given point."""

    rule: StepRule
    """How long each step is; also for the last, differentiable one that ``Laplace`` takes itself."""

    runs_to_convergence: bool = False
    """Whether to search to the end before the precision is asked for, rather than to end with a Newton step."""
    bfgs: int = 0
    """Quasi-Newton steps after each step."""
    newton: bool = False
    """Whether it is Newton's method: compiled code knows that."""

    @abstractmethod
    def init(self, here: Linearization) -> tuple[Linearization, State]:
        """What it works on, and what it keeps to begin with."""

    @abstractmethod
    def step(self, t: int, here: Linearization, state: State) -> Step:
        """Step t = 0, 1, ... of each example."""

    def visits(self, steps: int) -> int:
        """The most points seen in so many steps."""
        return steps * (1 + self.bfgs)

    @torch.no_grad()
    def search(self, near: Linearization, steps: int, tolerance: float = 0.0) -> tuple[Linearization, list[Record]]:
        """Where up to ``steps`` steps lead, and what was seen before each, ``visits(steps)`` at most.

        An example that can gain ``tolerance`` nats at most is done and left out of what follows. (On a GPU or in a
        compiled graph all data take all steps: asking who is done would cost more.) Evaluate what is given back anew,
        ``found.at(found.z)``, where gradients are wanted.
        """
        visits = self.visits(steps)
        if self.newton and (
            found := compiled_newton.compiled_search(near, self.rule, visits, self.visits(1), tolerance)
        ):
            return found
        here, state = self.init(near)
        z, seen, rows = near.z, [], torch.arange(len(near.z), device=near.z.device)
        for t in range(visits):
            level = here.log_joint
            grad, here, left, going, state = self.step(t, here, state)
            now = Record.of(level, grad)
            seen.append(seen[-1].updated(rows, now) if len(rows) < len(z) else now)
            z = z.index_copy(0, rows, here.z)
            going = left > tolerance if going is None else (left > tolerance) & going
            if not linalg.can_sync(going):
                continue
            kept = going.nonzero().squeeze(-1)
            if len(kept) == 0:
                break
            if len(kept) < len(rows):
                rows, here = rows[kept], here.take(kept)
                state = tuple(one.take(kept) if isinstance(one, Linearization) else one[kept] for one in state)
        whole = len(rows) == len(z) and type(here) is type(near)
        return here if whole else type(near)(near.frame, z), seen


@dataclass(frozen=True)
class Newton(Solver):
    """Newton steps ``Lam^-1 grad``, each followed by ``bfgs`` quasi-Newton steps from its factor of Lam.

    A quasi-Newton step needs the gradient only, a few vector products, where Lam needs D of them; it has learned the
    curvature along the steps since then (BFGS), from those tried in vain as well: the gradient beyond a ridge of the
    decoder turns the next step along it. An example is done when a step promises next to nothing, or when neither a
    Newton step nor those after it moved it.
    """

    rule: StepRule = field(default_factory=Backtracking)
    bfgs: int = 8
    newton: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bfgs < 0:
            raise ValueError(f"Newton: bfgs must be 0 or more; got {self.bfgs}.")

    def init(self, here: Linearization) -> tuple[Linearization, State]:
        return here, ()

    def step(self, t: int, here: Linearization, state: State) -> Step:
        if not state:
            local = here.local()
            grad, moved, bend = local.grad, None, BFGS.of(local.precision)
        else:
            tried, last, taken, expected, good, moved, *bent = state
            grad = tried.grad()
            bend = BFGS(*bent).after(taken, last - grad, expected, good)
            grad = torch.where(good.unsqueeze(-1), grad, last)
        d = bend.solve(grad)
        tried = self.rule.advance(t, here, grad, d)
        there, _ = tried.taken(here)
        gain = torch.linalg.vecdot(grad, d)
        moved = tried.good if moved is None else moved | tried.good
        if (t + 1) % self.visits(1) == 0:
            return Step(grad, there, 0.5 * gain, moved)
        taken, expected = tried.length.unsqueeze(-1) * d, tried.length.square() * gain
        return Step(grad, there, 0.5 * gain, None, (tried.there, grad, taken, expected, tried.good, moved, *bend))
