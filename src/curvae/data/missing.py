"""Masks for studies of missing values: at random (MCAR), by other columns (MAR), by the values themselves (MNAR).

Each takes rows of numbers and gives a mask, True where a cell is observed: ``frame.where(mask)`` or
``np.where(mask, x, np.nan)`` has the holes. Of N rows exactly ``round(rate N)`` cells of each column go, and each of
them with exactly its probability: they are drawn by systematic sampling (Madow, 1949).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


def mcar_mask(x: ArrayLike, rate: float, seed: int = 0) -> Mask:
    """Missing completely at random: each set of ``round(rate N)`` cells of a column is as probable as any other.

    Args:
        x: (N, D), of which only the shape matters.
        rate: share of each column that goes.
        seed: of the draws.

    Raises:
        ValueError: no rows and columns, or a rate outside [0, 1].

    Example:
        >>> (~mcar_mask(np.zeros((10, 3)), 0.2)).sum(0).tolist()
        [2, 2, 2]
    """
    shape, count = _checked(np.shape(x), rate)
    rng = np.random.default_rng(seed)
    return ~np.stack([_drawn(np.full(shape[0], count / shape[0]), rng) for _ in range(shape[1])], 1)


def mar_mask(
    x: ArrayLike, rate: float, seed: int = 0, drivers: Sequence[int] | None = None, slope: float = 2.0
) -> Mask:
    """Missing at random: cells of a column go by the values of other columns, which are all observed.

    ``P(missing) = sigmoid(a_j + slope b_j'u)``, u the standardized drivers, b_j a direction of its own for each column,
    drawn and scaled so that ``b_j'u`` has variance 1; a_j gives the rate.

    Args:
        x: (N, D), finite.
        rate: share that goes of each column that is no driver.
        seed: of directions and draws.
        drivers: columns that are observed throughout; by default the first half of them, at least one.
        slope: how strongly they decide; 0 is completely at random.

    Raises:
        ValueError: as :func:`mcar_mask`; values that are not finite; no driver, no other column, or
            a column that is not there.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(10, 4))
        >>> (~mar_mask(x, 0.3)).sum(0).tolist()
        [0, 0, 3, 3]
    """
    values, count = _standardized(x, rate)
    width = values.shape[1]
    chosen = _columns("drivers", range((width + 1) // 2) if drivers is None else drivers, width)
    if not 0 < len(chosen) < width:
        raise ValueError(f"drivers: expected some of {width} columns, not none and not all; got {chosen}.")
    rng, mask = np.random.default_rng(seed), np.ones(values.shape, dtype=bool)
    for j in (j for j in range(width) if j not in chosen):
        score = values[:, chosen] @ rng.normal(size=len(chosen))
        mask[:, j] = ~_drawn(_shares(score / max(score.std(), 1e-12), count, slope), rng)
    return mask


def mnar_mask(
    x: ArrayLike, rate: float, seed: int = 0, columns: Sequence[int] | None = None, slope: float = 3.0
) -> Mask:
    """Missing not at random: cells go by their own values, larger ones more often (self-masking).

    ``P(missing) = sigmoid(a_j + slope x_j)`` of the standardized value, a_j gives the rate; with an infinite slope the
    largest values go.

    Args:
        x: (N, D), finite.
        rate: share that goes of each of these columns.
        seed: of the draws.
        columns: that have holes; all by default.
        slope: how strongly values decide; below 0 smaller ones go more often.

    Raises:
        ValueError: as :func:`mcar_mask`; values that are not finite, a slope that is no number, a
            column that is not there.

    Example:
        >>> x = np.arange(6.0).reshape(6, 1)
        >>> mnar_mask(x, 0.5, slope=math.inf)[:, 0].tolist()
        [True, True, True, False, False, False]
    """
    values, count = _standardized(x, rate)
    rng, mask = np.random.default_rng(seed), np.ones(values.shape, dtype=bool)
    width = values.shape[1]
    for j in _columns("columns", range(width) if columns is None else columns, width):
        mask[:, j] = ~_drawn(_shares(values[:, j], count, slope), rng)
    return mask


def _checked(shape: tuple[int, ...], rate: float) -> tuple[tuple[int, ...], int]:
    """The shape, and how many cells of a column go."""
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"x: expected rows and columns, (N, D); got an array of shape {shape}.")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: expected a share in [0, 1]; got {rate}.")
    return shape, round(rate * shape[0])


def _columns(who: str, chosen: Sequence[int], width: int) -> list[int]:
    """Their numbers from 0 on, each once; -1 is the last."""
    if wrong := [j for j in chosen if not -width <= j < width]:
        raise ValueError(f"{who}: expected numbers of columns from 0 to {width - 1}; got {wrong[0]}.")
    return sorted({j % width for j in chosen})


def _standardized(x: ArrayLike, rate: float) -> tuple[Values, int]:
    """Columns of mean 0 and deviation 1, a constant one of zeros, and how many cells of each go."""
    values = np.asarray(x, dtype=np.float64)
    _, count = _checked(values.shape, rate)
    if not np.isfinite(values).all():
        raise ValueError("x: expected finite numbers, which a mask is made for; got NaN or infinity.")
    centered = values - values.mean(0)
    return centered / np.maximum(centered.std(0), 1e-12 * np.abs(values).max(0) + 1e-300), count


def _shares(score: Values, count: int, slope: float) -> Values:
    """Probabilities ``sigmoid(a + slope score)`` whose sum is ``count``; 0 and 1 where the slope is infinite.

    >>> shares = _shares(np.array([-1.0, 0.0, 1.0]), 1, 2.0)
    >>> round(float(shares.sum()), 9), bool((np.diff(shares) > 0).all())
    (1.0, True)
    """
    if math.isnan(slope):
        raise ValueError("slope: expected a number, got NaN.")
    if count in (0, len(score)):
        return np.full(len(score), count / len(score))
    if math.isinf(slope):
        order = np.argsort(score if slope < 0 else -score, kind="stable")
        return np.isin(np.arange(len(score)), order[:count]).astype(np.float64)
    steep = slope * score
    ends = float(-steep.max() - 50), float(-steep.min() + 50)
    offset: Any = brentq(lambda a: expit(a + steep).sum() - count, *ends, xtol=1e-13)
    return expit(offset + steep)


def _drawn(shares: Values, rng: np.random.Generator) -> Mask:
    """A draw of a set, each element in it with its share: as many as the sum of shares, a whole number, says."""
    order = rng.permutation(len(shares))
    edges = np.concatenate([[0.0], np.cumsum(shares[order])])
    edges[-1] = round(edges[-1])
    steps = np.floor(edges - rng.random())
    found = np.zeros(len(shares), dtype=bool)
    found[order] = np.diff(steps) > 0
    return found
