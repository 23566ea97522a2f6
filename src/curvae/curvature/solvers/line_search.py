"""How long a step of a mode search is: a line search along the direction, or the paper's fixed schedule."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Linearization
from curvae.typing import PerDatum


class Trial(NamedTuple):
    """What a step rule tried, and whether that is to be taken."""

    there: Linearization
    """The last point tried."""
    length: PerDatum
    """Of the step there."""
    good: Bool[Tensor, " B"]
    """Whether to go there."""

    def taken(self, here: Linearization) -> tuple[Linearization, PerDatum]:
        """Where this leads from here, and the length of the step; 0 leaves an example where it is."""
        if linalg.can_sync(self.good) and bool(self.good.all()):
            return self.there, self.length
        return self.there.where(self.good, here), torch.where(self.good, self.length, 0.0)


class StepRule(ABC):
    """How far to go along a Newton direction."""

    @abstractmethod
    def advance(
        self, t: int, here: Linearization, grad: Float[Tensor, "B D"], direction: Float[Tensor, "B D"]
    ) -> Trial:
        """What step t = 0, 1, ... tries for each example."""


@dataclass(frozen=True)
class PaperSchedule(StepRule):
    """``a_t = scale / (t + 1)``, whatever happens to the log joint (VLAE, section 3).

    On a linear decoder it leaves ``prod_t (1 - a_t)`` of the initial error: 27 % after four steps.
    """

    scale: float = 0.5

    def advance(
        self, t: int, here: Linearization, grad: Float[Tensor, "B D"], direction: Float[Tensor, "B D"]
    ) -> Trial:
        length = torch.full_like(here.log_joint, self.scale / (t + 1))
        return Trial(here.at(here.z + length.unsqueeze(-1) * direction), length, length > 0)


@dataclass(frozen=True)
class Backtracking(StepRule):
    """The full step; where that does not raise the log joint enough, one shorter step; else none: it never falls.

    Enough is ``log p(x, z + a d) >= log p(x, z) + sufficient * a * d'grad`` (Armijo). The shorter step goes to the top
    of the parabola through both ends with the slope at z, ``a = 1/2 g / (g - rise)`` with ``g = d'grad``, within
    [``shortest``, 1/2]. One try is enough, as the next step starts afresh; where the full step promises less than
    ``worth`` nats none is made.
    """

    shortest: float = 0.05
    worth: float = 1e-3
    sufficient: float = 1e-4

    def advance(
        self, t: int, here: Linearization, grad: Float[Tensor, "B D"], direction: Float[Tensor, "B D"]
    ) -> Trial:
        gain = torch.linalg.vecdot(grad, direction)
        full = self._tried(here, torch.ones_like(gain), gain, direction)
        short = full.good.logical_not() & (0.5 * gain <= self.worth).logical_not()
        rise = full.there.log_joint - here.log_joint
        a = (0.5 * gain / (gain - rise)).nan_to_num(self.shortest).clamp(self.shortest, 0.5)
        if not linalg.can_sync(short):
            less = self._tried(here, a, gain, direction)
            length, good = torch.where(short, a, full.length), torch.where(short, less.good, full.good)
            return Trial(less.there.where(short, full.there), length, good)
        rows = short.nonzero().squeeze(-1)
        if len(rows) == 0:
            return full
        less = self._tried(here.take(rows), a[rows], gain[rows], direction[rows])
        length, good = full.length.index_copy(0, rows, less.length), full.good.index_copy(0, rows, less.good)
        return Trial(full.there.updated(rows, less.there), length, good)

    def _tried(self, here: Linearization, a: PerDatum, gain: PerDatum, direction: Float[Tensor, "B D"]) -> Trial:
        """A step of length a."""
        there = here.at(here.z + a.unsqueeze(-1) * direction)
        return Trial(there, a, there.log_joint - here.log_joint >= self.sufficient * a * gain)
