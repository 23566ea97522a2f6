"""What a mean over data is, and the plain form of values for JSON."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = dict[str, NDArray]
"""Arrays by name, one row an example; see :func:`curvae.evaluation.score`."""


@dataclass(frozen=True)
class Estimate:
    """A mean over data.

    The standard error is that over the choice of data, ``sd / sqrt(N)`` with sd across data. Where each example's value
    is itself an estimate, with an error of its own that is independent of the others, sd across data contains that
    error already: nothing is added to it. ``monte_carlo = sqrt(sum_i stderr_i^2) / N`` is that part of it alone, the
    error over the choice of draws, to be compared with the whole. A single example has no standard error, and none is
    printed.

    Example:
        >>> Estimate.of(np.array([1.0, 2.0, 3.0]))
        Estimate(value=2.0, stderr=0.5773502691896258, monte_carlo=0.0)
        >>> found = Estimate(2.0, 0.577)
        >>> f"{found}, {found:+.1f}, {Estimate(2.0, math.nan)}"
        '2.00 ± 0.58, +2.0 ± 0.6, 2.00'
    """

    value: float
    stderr: float
    monte_carlo: float = 0.0

    @classmethod
    def of(cls, values: NDArray, stderr: NDArray | None = None) -> "Estimate":
        """From one value an example, and its own standard error; NaN without data, no error from a single one."""
        count = len(values)
        if count == 0:
            return cls(math.nan, math.nan)
        spread = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        own = 0.0 if stderr is None else float(np.sqrt(np.square(stderr).sum())) / count
        return cls(float(np.mean(values)), spread, own)

    @classmethod
    def paired(cls, ours: NDArray, theirs: NDArray, stderr: NDArray | None = None) -> "Estimate":
        """Of ``ours - theirs``, over the data where that is finite; what makes an example easy for both falls out.

        Example:
            >>> Estimate.paired(np.array([2.0, 5.0, np.nan]), np.array([1.0, 3.0, 8.0]))
            Estimate(value=1.5, stderr=0.5, monte_carlo=0.0)
        """
        difference = ours - theirs
        known = np.isfinite(difference)
        return cls.of(difference[known], None if stderr is None else stderr[known])

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        """Both numbers by one specification, a sign for the first only; no error where there is none, "-" for NaN."""
        spec = spec or ".2f"
        if not math.isfinite(self.value):
            return "-"
        error = f" ± {self.stderr:{spec.lstrip('+')}}" if math.isfinite(self.stderr) else ""
        return f"{self.value:{spec}}{error}"


@dataclass(frozen=True)
class Summary:
    """A diagnostic over all data: its median, its worst value, and the share of data beyond its threshold."""

    median: float
    worst: float
    flagged: float

    @classmethod
    def of(cls, values: NDArray, worst: Callable[[NDArray], Any], bad: NDArray) -> "Summary":
        """Of one value an example, NaN left out; ``bad`` says which are beyond the threshold.

        Example:
            >>> Summary.of(np.array([1.0, 4.0, np.nan]), np.max, np.array([False, True, False]))
            Summary(median=2.5, worst=4.0, flagged=0.5)
        """
        known = ~np.isnan(values)
        if not known.any():
            return cls(math.nan, math.nan, math.nan)
        return cls(float(np.median(values[known])), float(worst(values[known])), float(bad[known].mean()))


def to_plain_json(value: Any) -> Any:
    """Mappings, lists, numbers and words alone; NaN and infinity as None."""
    match value:
        case Mapping():
            return {str(name): to_plain_json(part) for name, part in value.items()}
        case list() | tuple():
            return [to_plain_json(part) for part in value]
        case float() | np.floating():
            return float(value) if math.isfinite(value) else None
        case np.integer():
            return int(value)
        case _:
            return value
