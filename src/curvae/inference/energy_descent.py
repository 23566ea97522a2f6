"""Descent of an energy, each example at a rate of its own, along which it never rises."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.typing import PerDatum

SHRINK, GROW = 0.5, 1.2
"""What a step that raised the energy, and one that did not, do to an example's rate."""

Energy = Callable[[Tensor], PerDatum]
"""From the states (B, Q) to the energy of each example, nats."""


class Point(NamedTuple):
    """Where a descent stands."""

    states: Float[Tensor, "B Q"]
    energy: PerDatum
    slope: Float[Tensor, "B Q"]
    """Of the energy in the states."""
    rate: PerDatum
    """Of the next step."""


def start_descent(energy: Energy, states: Float[Tensor, "B Q"], rate: PerDatum) -> Point:
    """The beginning of a descent.

    Example:
        >>> point = start_descent(lambda x: x.square().sum(-1), torch.ones(1, 2), torch.tensor([0.5]))
        >>> point.energy.item(), point.slope.tolist()
        (2.0, [[2.0, 2.0]])
    """

    def summed(at: Float[Tensor, "B Q"]) -> tuple[Tensor, PerDatum]:
        each = energy(at)
        return each.sum(), each

    slope, each = torch.func.grad(summed, has_aux=True)(states)
    return Point(states, each, slope, rate)


def descended(energy: Energy, at: Point, direction: Float[Tensor, "B Q"] | None = None) -> Point:
    """``x - rate dF/dx``, for the examples whose F does not rise by that; the others stay, and their rate is halved.

    After a step that was taken the rate grows by a fifth. F is computed once a step.

    Args:
        energy: F.
        at: where the descent stands.
        direction: in place of ``dF/dx``.

    Example:
        >>> squares = lambda x: x.square().sum(-1)
        >>> point = descended(squares, start_descent(squares, torch.ones(1, 2), torch.tensor([0.5])))
        >>> point.states.tolist(), round(point.rate.item(), 6)
        ([[0.0, 0.0]], 0.6)
    """
    step = at.slope if direction is None else direction
    tried = start_descent(energy, at.states - at.rate.unsqueeze(-1) * step, at.rate)
    fell = tried.energy <= at.energy
    states, slope = (torch.where(fell.unsqueeze(-1), new, old) for new, old in ((tried[0], at[0]), (tried[2], at[2])))
    return Point(states, torch.where(fell, tried.energy, at.energy), slope, at.rate * torch.where(fell, GROW, SHRINK))
