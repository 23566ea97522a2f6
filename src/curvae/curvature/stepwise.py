"""The frame of a search: one step after the other, and no step for a datum that is done."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.route import Point, Route
from curvae.curvature.search import Seen


class Step(NamedTuple):
    """What one step gave."""

    grad: Float[Tensor, "B D"]
    """The gradient before it."""
    there: Point
    """Where it led."""
    going: Bool[Tensor, " B"] | None = None
    """Who is not done; None: nobody is."""
    carried: tuple[Tensor | Point, ...] = ()
    """What the solver keeps of each datum from one step to the next, each (B, ...)."""


def stepwise(
    route: Route, z: Float[Tensor, "B D"], steps: int, step: Callable[..., Step], *carried: Tensor | Point
) -> tuple[Float[Tensor, "B D"], list[Seen]]:
    """Up to ``steps`` times ``step(t, route, point, *carried)``, of the data that are going; and what was seen.

    Where looking at values would cost (``linalg.may_look``) all data take all steps.
    """
    seen: list[Seen] = []
    rows, here = torch.arange(len(z), device=z.device), route.point(z)
    for t in range(steps):
        grad, there, going, carried = step(t, route, here, *carried)
        now = Seen.of(here.log_joint, grad)
        seen.append(seen[-1].updated(rows, now) if len(rows) < len(z) else now)
        z, here = z.index_copy(0, rows, there.z), there
        if going is None or not linalg.may_look(going):
            continue
        left = going.nonzero().squeeze(-1)
        if len(left) == 0:
            break
        if len(left) < len(rows):
            rows, route, here = rows[left], route.take(left), here.take(left)
            carried = tuple(value.take(left) if isinstance(value, Point) else value[left] for value in carried)
    return z, seen
