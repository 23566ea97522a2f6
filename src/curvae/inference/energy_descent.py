"""A step down an energy, each example at a rate of its own, by which it never rises."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.typing import PerDatum

SHRINK, GROW = 0.5, 1.2
"""What a step that raised the energy, and one that did not, do to an example's rate."""

Numbers = Float[Tensor, "B Q"]
Energy = Callable[[Numbers], tuple[PerDatum, Numbers]]
"""From coordinates (B, Q) to the energy of each example, nats, and the numbers phi that say which laws these are."""


class Descended(NamedTuple):
    """What a step did."""

    coordinates: Numbers
    rate: PerDatum
    """Of the next step."""
    before: PerDatum
    """The energy where the step began."""
    after: PerDatum
    phi: Numbers
    """Of the laws after it."""


def descended(
    energy: Energy, at: Numbers, rate: PerDatum, natural: Callable[[Numbers, Numbers], Numbers] | None = None
) -> Descended:
    """``x - rate dF/dx``, for the examples whose F does not rise by that; the others stay, and their rate is halved.

    After a step that was taken the rate grows by a fifth.

    Args:
        energy: F.
        at: x.
        rate: of each example.
        natural: from phi and the slope to what is taken in the slope's place.

    Example:
        >>> step = descended(lambda x: (x.square().sum(-1), x), torch.ones(1, 2), torch.tensor([0.5]))
        >>> step.coordinates.tolist(), step.before.item(), step.after.item(), round(step.rate.item(), 6)
        ([[0.0, 0.0]], 2.0, 0.0, 0.6)
    """

    def summed(x: Numbers) -> tuple[Tensor, tuple[PerDatum, Numbers]]:
        each, phi = energy(x)
        return each.sum(), (each, phi)

    slope, (before, phi) = torch.func.grad(summed, has_aux=True)(at)
    tried = at - rate.unsqueeze(-1) * (slope if natural is None else natural(phi, slope))
    after, there = energy(tried)
    fell = after <= before
    kept, laws = (torch.where(fell.unsqueeze(-1), new, old) for new, old in ((tried, at), (there, phi)))
    return Descended(kept, rate * torch.where(fell, GROW, SHRINK), before, torch.where(fell, after, before), laws)
