"""How much inference a training step is worth: less while plain learning is fast, more as it slows down."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curvae.systems import Level

HORIZON = 60.0
"""Epochs of plain learning against which a tighter bound is weighed. On MNIST 20 were too few: see docs/budget.md."""
FINISH = 5.0
"""The same for each epoch that is left. Refined epochs turn about a tenth of the gap into likelihood at once; the rate,
a mean over epochs that have passed, is somewhat above that of those to come."""
WINDOW = 4.0
"""Of the rate: the n-th gain enters it with weight ``WINDOW / (n + WINDOW - 1)``, so that the mean goes back further
the longer training lasts, as learning slows down and single epochs say less and less of it."""
ROWS = (64, 512)
"""Least and most validation rows that a review looks at; between them, a two-hundredth of the training rows."""


def rows(train: int, validation: int) -> int:
    """How many validation rows are reviewed, so that a review costs little beside an epoch.

    Example:
        >>> rows(50_000, 10_000), rows(1_000, 50)
        (250, 50)
    """
    least, most = ROWS
    return min(validation, max(least, min(most, train // 200)))


@dataclass(frozen=True)
class Standing:
    """Where a budget stands; saved with the run."""

    level: int = 0
    bound: float = math.nan
    """Of this level at the last review; NaN before the first one."""
    rate: float = math.nan
    """Nats an epoch that this level has been learning lately; NaN before the second review."""
    gains: int = 0
    """How many epochs are in it."""


def learned(here: Standing, bound: float) -> Standing:
    """With what the last epoch has brought."""
    gain = bound - here.bound
    if math.isnan(gain):
        return replace(here, bound=bound)
    weight = WINDOW / (here.gains + WINDOW)
    rate = gain if math.isnan(here.rate) else here.rate + weight * (gain - here.rate)
    return replace(here, bound=bound, rate=rate, gains=here.gains + 1)


def moved(here: Standing, bounds: Sequence[float], costs: Sequence[float], remaining: float = math.inf) -> Standing:
    r"""The level from here on, given the bound of each level with the present parameters.

    In the time of one epoch at level m, ``c_m / c_l`` epochs fit at level l. So to rise from l to l + 1 costs, over h
    epochs, what ``h (c_{l+1} / c_l - 1)`` more epochs at level l would have brought, at the rate ``r`` of late; it
    gains the tighter bound at once. Training rises where the gain is the larger:
    ``b_{l+1} - b_l > h r (c_{l+1} / c_l - 1)``, with ``h = HORIZON``, or ``FINISH R`` where that is less: what R epochs
    at level l + 1 cost is paid back by a share 1 / FINISH of the gap. It falls where even
    half of the price of its own level is not met, ``b_l - b_{l-1} < 1/2 h r (1 - c_{l-1} / c_l)``. It moves by one
    level at a time, and not before the rate at a level is known.

    Args:
        here: level and rate.
        bounds: of each level, cheapest first, on the same data with the same noise.
        costs: of a training step at each level, in any unit.
        remaining: number R of epochs that are left.

    Example:
        >>> at = Standing(level=0, bound=500.0, rate=0.5)
        >>> moved(at, bounds=[500.0, 540.0], costs=[1.0, 2.0]).level    # 40 nats > 60 * 0.5 * 1
        1
        >>> moved(at, bounds=[500.0, 520.0], costs=[1.0, 2.0]).level
        0
        >>> moved(at, bounds=[500.0, 520.0], costs=[1.0, 2.0], remaining=6).level    # 20 nats > 5 * 6 * 0.5 * 1
        1
    """
    level = here.level
    if math.isnan(here.rate):
        return here
    rate, horizon = max(here.rate, 0.0), min(HORIZON, FINISH * remaining)
    if level + 1 < len(costs):
        ratio = costs[level + 1] / costs[level]
        if bounds[level + 1] - bounds[level] > horizon * rate * (ratio - 1):
            return Standing(level + 1, bounds[level + 1])
    if level:
        ratio = costs[level] / costs[level - 1]
        if bounds[level] - bounds[level - 1] < 0.5 * horizon * rate * (1 - 1 / ratio):
            return Standing(level - 1, bounds[level - 1])
    return here


def check(levels: Sequence[Level]) -> None:
    """Raise if a stage cannot choose among these.

    Raises:
        ValueError: costs that are not positive and rising, or a name that occurs twice.
    """
    costs, names = [level.cost for level in levels], [level.name for level in levels]
    if any(cost <= 0 for cost in costs) or sorted(set(costs)) != costs:
        raise ValueError(f"Stage.levels: expected costs that are positive and rise from level to level; got {costs}.")
    if len(set(names)) < len(names):
        raise ValueError(f"Stage.levels: expected a name of its own for each level; got {names}.")
