"""How often chance alone would do as much: p-values of paired differences, and what many of them are worth together."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr


def paired_p_value(value: float, stderr: float, count: int) -> float:
    """Two-sided, of a mean of ``count`` differences and its standard error, by Student's t; NaN below two of them.

    Example:
        >>> round(paired_p_value(value=2.0, stderr=1.0, count=1000), 4)
        0.0458
    """
    if count < 2 or not (math.isfinite(value) and math.isfinite(stderr)):
        return math.nan
    if stderr == 0:
        return float(value == 0)
    return float(2 * stdtr(count - 1, -abs(value) / stderr))


def holm(p_values: Sequence[float]) -> list[float]:
    r"""p-values that hold for all comparisons together, by Holm's step-down.

    With ``p_(1) <= ... <= p_(m)`` the adjusted ones are ``max_{j <= i} min(1, (m - j + 1) p_(j))``. Calling every
    difference real whose adjusted p-value is below a calls even one wrongly with a probability of at most a, however
    the differences depend on one another, as those from a common first run do. What is NaN stays so and is not counted.

    Reference: Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 1979.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    order = np.argsort(given)[: int((~np.isnan(given)).sum())]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * given[order]))
    return adjusted.tolist()
