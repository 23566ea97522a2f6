"""Verdicts on a learning curve."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.verdicts.verdict import Verdict

ROUNDS = 6
"""Fewest looks at the validation data that say anything of a curve."""
LATE = 0.05
"""Share of the updates in which the best one counts as the last."""
WORTH = 0.1
"""Least gain or loss in nats that is spoken of."""
SIGMAS = 3.0
"""The same in units of the noise of a difference between two looks."""


def training_verdicts(metrics: Mapping[str, Any], again: str = "curvae fit --continue RUN") -> tuple[Verdict, ...]:
    """How the last stage of training ended.

    Still rising: the best bound lies in the last 5 % of the updates, and the last third of them gained more than noise.
    Overfits: the bound has fallen from its best by more than noise, while that of the training data rose. Noise is the
    spread of the differences between successive looks over the last third, by their median, and 0.1 nats at least.

    Args:
        metrics: columns of a run's metrics.
        again: the command that trains on.

    Example:
        >>> rows = range(1, 41)
        >>> curve = {"stage": ["train"] * 40, "epoch": list(rows), "step": list(rows), "train_bound": list(rows)}
        >>> [each.kind for each in training_verdicts(curve | {"validation_bound": [float(row) for row in rows]})]
        ['rising']
        >>> [each.kind for each in training_verdicts(curve | {"validation_bound": [-abs(row - 9.0) for row in rows]})]
        ['overfits']
    """
    last = last_stage(metrics)
    bound, train = (np.asarray(metrics[name], dtype=float)[last] for name in ("validation_bound", "train_bound"))
    step, epoch = np.asarray(metrics["step"])[last], np.asarray(metrics["epoch"])[last]
    known = np.isfinite(bound)
    bound, train, step, epoch = bound[known], train[known], step[known], epoch[known]
    if len(bound) < ROUNDS:
        return ()
    best, third = int(bound.argmax()), len(bound) - max(2, len(bound) // 3)
    noise = max(WORTH, SIGMAS * _noise(np.diff(bound[third:])))
    begin = step[0] - (step[1] - step[0])
    if (step[best] - begin) / (step[-1] - begin) > 1 - LATE and (gain := bound[best] - bound[third]) > noise:
        return (Verdict("rising", f"Still rising: {gain:.2f} nats in the last third of training; {again} goes on."),)
    if (loss := bound[best] - bound[-1]) > noise and train[-1] > train[best]:
        line = (
            f"Overfits: after epoch {epoch[best]:,} of {epoch[-1]:,} the validation bound fell by {loss:.2f} nats, "
            f"while that of the training data rose by {train[-1] - train[best]:.2f}; the weights of that epoch are "
            "kept. More data, fewer units or weight decay may help."
        )
        return (Verdict("overfits", line),)
    return ()


def last_stage(metrics: Mapping[str, Any]) -> slice:
    """Rows of the last stage, in its last cycle."""
    stages = list(metrics["stage"])
    first = len(stages)
    while first and stages[first - 1] == stages[-1]:
        first -= 1
    return slice(first, len(stages))


def _noise(steps: NDArray[np.float64]) -> float:
    """Standard deviation of the differences about their median, by the median."""
    return float(1.4826 * np.median(np.abs(steps - np.median(steps)))) if len(steps) else 0.0
