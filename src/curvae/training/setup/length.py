"""How long training lasts, and how that is divided among its stages: in epochs, in updates or in minutes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from curvae.systems import Stage

Unit = Literal["epochs", "max_updates", "minutes"]

ROUND = 50
"""Least updates between two looks at the validation data, where length is not said in epochs."""


@dataclass(frozen=True)
class Length:
    """So many epochs, updates or minutes; the number is whole but for minutes.

    Example:
        >>> str(Length("epochs", 20)), str(Length("max_updates", 3000)), str(Length("minutes", 0.5))
        ('20 epochs', '3,000 updates', '0.5 minutes')
    """

    unit: Unit
    amount: float

    def __str__(self) -> str:
        word = {"epochs": "epoch", "max_updates": "update", "minutes": "minute"}[self.unit]
        amount = f"{self.amount:,.3g}" if self.unit == "minutes" else f"{int(self.amount):,}"
        return f"{amount} {word}" + ("" if self.amount == 1 else "s")

    def done(self, epochs: float, updates: int, seconds: float) -> float:
        """Which share of it that is, in [0, 1]."""
        passed = {"epochs": epochs, "max_updates": updates, "minutes": seconds / 60}[self.unit]
        return min(1.0, passed / self.amount) if self.amount else 1.0

    def passes(self, batches: int) -> int:
        """Passes over the training data between two looks at the validation data."""
        return 1 if self.unit == "epochs" else math.ceil(ROUND / batches)

    def divided(self, shares: Sequence[float], costs: Sequence[float] | None = None) -> list["Length"]:
        """In proportion to the shares that stages have of the time, where an update of each costs so much.

        Raises:
            ValueError: fewer than one epoch or update for each stage.
        """
        if self.unit == "minutes":
            return [Length(self.unit, self.amount * share / max(sum(shares), 1e-300)) for share in shares]
        shares = [share / cost for share, cost in zip(shares, costs or [1.0] * len(shares), strict=True)]
        return [Length(self.unit, count) for count in divide(int(self.amount), shares, self.unit)]


def lengths(whole: Length, stages: Sequence["Stage"]) -> list[Length]:
    """Of each stage.

    Raises:
        ValueError: the whole is too short for so many.
    """
    return whole.divided([stage.share for stage in stages], [stage.cost for stage in stages])


def divide(count: int, shares: Sequence[float], what: str = "epochs") -> list[int]:
    """A whole number in proportion to the shares, at least 1 each but where a share is 0, by largest remainders.

    Raises:
        ValueError: fewer than stages that have a share.

    Example:
        >>> divide(20, [0.5, 0.5]), divide(7, [2, 0, 1]), divide(3, [0.01, 0.99]), divide(5, [0])
        ([10, 10], [5, 0, 2], [1, 2], [0])
    """
    stages = sum(share > 0 for share in shares)
    if count < stages:
        raise ValueError(f"{what}: expected {stages} or more, one for each stage of training; got {count}.")
    wanted = [count * share / max(sum(shares), 1e-300) for share in shares]
    counts = [max(1, math.floor(want)) if want > 0 else 0 for want in wanted]
    while stages and sum(counts) != count:
        short = [want - each for want, each in zip(wanted, counts, strict=True)]
        if sum(counts) < count:
            counts[int(np.argmax(short))] += 1
        else:
            counts[int(np.argmin([s if c > 1 else math.inf for s, c in zip(short, counts, strict=True)]))] -= 1
    return counts
