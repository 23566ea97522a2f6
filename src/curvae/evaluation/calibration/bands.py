r"""How far the distribution of uniform ranks strays: bands that hold at every rank at once, exactly.

Of N uniform ranks in 0 .. L, the number ``C_k`` at or below k is binomial, with probability ``(k + 1) / (L + 1)``. A
band is made of the counts whose own two-sided p-value is above one level; the level is such that the *whole* path
``C_0 .. C_{L-1}`` stays inside with the probability asked for. That probability is exact: steps of the path are
multinomial, hence Poisson given their sum, and a path inside is a chain of convolutions.

Reference: Säilynoja, Bürkner and Vehtari, *Graphical test for discrete uniformity and its applications in
goodness-of-fit evaluation and multiple sample comparison*, Statistics and Computing 2022, section 2.2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc

HALVINGS = 25
"""Bisections of the logarithm of the level."""
ROUNDING = 1e-9
"""By which share a p-value may be off and still be the same."""
EXACT = 1e-12
"""p-values below it are lost in 1 less the probability of staying within: a bound takes their place (Bonferroni)."""


class Band(NamedTuple):
    """Counts at or below each rank 0 .. L - 1 that lie inside, both ends included."""

    low: Int[NDArray[Any], " L"]
    high: Int[NDArray[Any], " L"]


def rank_band(count: int, draws: int, level: float = 0.95) -> Band:
    """The narrowest band of this kind that holds the counts of ``count`` uniform ranks, at all ranks at once.

    Args:
        count: N, ranks.
        draws: L; ranks are 0 .. L.
        level: least probability of the whole path.

    Example:
        >>> band = rank_band(1000, 99)
        >>> int(band.low[49]), int(band.high[49]), holds(band, 1000, 99) >= 0.95
        (453, 547, True)
    """
    sure, most = np.log((1 - level) / draws), np.log(1 - level)
    for _ in range(HALVINGS):
        middle = (sure + most) / 2
        enough = holds(_inside(count, draws, np.exp(middle)), count, draws) >= level
        sure, most = (middle, most) if enough else (sure, middle)
    return _inside(count, draws, np.exp(sure))


def rank_p_value(ranks: Int[NDArray[Any], " N"], draws: int) -> float:
    """How often uniform ranks leave, somewhere, the widest band that these do not stay within: exact above 1e-12.

    It is at most 0.05 just where the ranks leave the band of level 0.95.

    Example:
        >>> rank_p_value(np.arange(1000) % 100, 99), rank_p_value(np.zeros(1000, dtype=int), 99) < 1e-9
        (1.0, True)
    """
    count, seen = len(ranks), np.bincount(ranks, minlength=draws + 1).cumsum()[:-1]
    least = float(_two_sided(seen, count, draws).min())
    if least == 1:
        return 1.0
    apart = 1 - holds(_inside(count, draws, least * (1 + ROUNDING)), count, draws)
    return apart if apart > EXACT else draws * least


def holds(band: Band, count: int, draws: int) -> float:
    """The probability that all counts of ``count`` uniform ranks lie inside a band."""
    from scipy.stats import poisson  # its package takes a second to import

    step, reached, begin = poisson.pmf(np.arange(count + 1), count / (draws + 1)), np.ones(1), 0
    for low, high in zip(*band, strict=True):
        if high < low:
            return 0.0
        path = np.convolve(reached, step[: high - begin + 1])
        reached, begin = path[low - begin : high - begin + 1], int(low)
    last = step[count - begin - np.arange(len(reached))]
    return float(reached @ last / poisson.pmf(count, count))


def _below(draws: int) -> Float[NDArray[Any], " L"]:
    """Probability of a rank at or below each of 0 .. L - 1."""
    return np.arange(1, draws + 1) / (draws + 1)


def _two_sided(counts: Int[NDArray[Any], " L"], count: int, draws: int) -> Float[NDArray[Any], " L"]:
    """The p-value of the count at each rank, by itself."""
    at = count, _below(draws)
    return np.minimum(1.0, 2 * np.minimum(bdtr(counts, *at), bdtrc(counts - 1, *at)))


def _inside(count: int, draws: int, level: float) -> Band:
    """The counts whose own p-value is above the level."""
    at = count, _below(draws)
    low = _first(lambda c: 2 * bdtr(c, *at) > level, count, draws)
    high = _first(lambda c: 2 * bdtrc(c, *at) <= level, count, draws)
    return Band(low, high)


def _first(holds_from: Callable[[NDArray[Any]], NDArray[Any]], count: int, draws: int) -> Int[NDArray[Any], " L"]:
    """The first of 0 .. ``count`` for which something holds that holds from there on, for each rank."""
    low, high = np.zeros(draws, dtype=int), np.full(draws, count)
    while (low < high).any():
        middle = (low + high) // 2
        found = holds_from(middle)
        low, high = np.where(found, low, np.minimum(middle + 1, high)), np.where(found, middle, high)
    return low
