"""How well a score tells unknown rows from known ones: areas and rates with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri

from curvae.evaluation.draws import in_parts
from curvae.io.typed import Share

LEVEL = 0.95
"""Of confidence intervals."""
POWER = 0.8
"""Share of unknown rows that are found, at which false alarms are counted."""
RESAMPLED = 1000
"""Bootstrap samples of rows."""
NUMBERS = 2**20
"""Of the counts of bootstrap samples that are held at a time."""
Unknown = Float[NDArray[np.floating], " U"]
Known = Float[NDArray[np.floating], " K"]
Values = Float[NDArray[np.floating], " R"]
Counts = Float[NDArray[np.float64], "R T"]


@dataclass(frozen=True)
class IntervalEstimate:
    """A number with its confidence interval of 95 %."""

    value: Share
    low: Share
    high: Share

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Detection:
    """How a score tells unknown rows from known ones; larger scores are less known."""

    auroc: IntervalEstimate
    """Area under the ROC curve: how often an unknown row has the larger score, ties half; interval by DeLong."""
    aupr: IntervalEstimate
    """Average precision, unknown rows being what is sought; by itself it is their share of all rows."""
    fpr80: IntervalEstimate
    """Share of known rows that are called unknown where 80 % of the unknown ones are."""


def detection(unknown: Unknown, known: Known, seed: int = 0) -> Detection:
    """All three, of scores that are larger the less a row is known.

    Args:
        unknown: scores of rows that the model was not made for.
        known: of rows like those that it was trained on.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than 2 rows of either, or a score that is NaN.

    Example:
        >>> found = detection(np.array([3.0, 4.0, 9.0]), np.array([1.0, 2.0, 3.5]))
        >>> str(found.auroc.value)[:5], round(found.aupr.value, 3), round(found.fpr80.value, 3)
        ('0.888', 0.917, 0.333)
    """
    unknown, known = (np.asarray(values, dtype=np.float64) for values in (unknown, known))
    if min(len(unknown), len(known)) < 2 or np.isnan(unknown).any() or np.isnan(known).any():
        raise ValueError(
            f"detection: expected scores of 2 rows or more of either kind, none of them NaN; got {len(unknown)} "
            f"unknown and {len(known)} known ones, {int(np.isnan(unknown).sum() + np.isnan(known).sum())} NaN."
        )
    return Detection(roc_area(unknown, known), *resampled(unknown, known, seed))


def roc_area(unknown: Unknown, known: Known) -> IntervalEstimate:
    """``P(unknown > known) + P(unknown = known) / 2``, with DeLong's interval on the logit scale.

    At 0 and 1, where the variance of DeLong is 0, the interval is Newcombe's.

    Reference: DeLong, DeLong and Clarke-Pearson, Biometrics 1988, by ranks as Sun and Xu, 2014; Newcombe, *Confidence
    Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic*, 2006, method 5.

    Example:
        >>> print(roc_area(np.arange(50.0) + 20, np.arange(50.0)))
        0.820 [0.728, 0.886]
        >>> print(roc_area(np.array([2.0, 3.0]), np.array([0.0, 1.0])))
        1.000 [0.386, 1.000]
    """
    from scipy.stats import rankdata  # its package takes a second to import

    count, others = len(unknown), len(known)
    ranks = rankdata(np.concatenate([unknown, known]))
    above = (ranks[:count] - rankdata(unknown)) / others
    below = 1 - (ranks[count:] - rankdata(known)) / count
    area = float(above.mean())
    variance = above.var(ddof=1) / count + below.var(ddof=1) / others
    if area in (0.0, 1.0) or variance == 0:
        return _newcombe(area, count, others)
    half = ndtri((1 + LEVEL) / 2) * np.sqrt(variance) / (area * (1 - area))
    return IntervalEstimate(area, *(float(expit(logit(area) + side * half)) for side in (-1, 1)))


def _newcombe(area: float, count: int, others: int) -> IntervalEstimate:
    """Areas from which this one is two standard errors of their own away; 0 and 1 are the end of their interval."""
    if area == 0:
        mirrored = _newcombe(1.0, count, others)
        return IntervalEstimate(0.0, 0.0, 1 - mirrored.low)
    mean, width = (count + others) / 2 - 1, ndtri((1 + LEVEL) / 2)

    def squared_error(at: float) -> float:
        """Over ``1 - at``."""
        return float(width**2) * at * (1 + mean * ((1 - at) / (2 - at) + at / (1 + at))) / (count * others)

    def beyond(at: float) -> float:
        return 1 - at - squared_error(at) if area == 1 else (area - at) ** 2 - (1 - at) * squared_error(at)

    ends = np.array([brentq(beyond, 0, area), 1.0 if area == 1 else brentq(beyond, area, 1)], dtype=float)
    return IntervalEstimate(area, *ends.tolist())


class Counted(NamedTuple):
    """Rows at or above each distinct score, from the largest down, for each of R samples of the rows."""

    unknown: Counts
    known: Counts


def resampled(unknown: Unknown, known: Known, seed: int = 0) -> tuple[IntervalEstimate, IntervalEstimate]:
    """Average precision, and the false positive rate at 80 %, with intervals by a bootstrap of both kinds of rows."""
    _, place = np.unique(-np.concatenate([unknown, known]), return_inverse=True)
    generator, size = np.random.default_rng(seed), int(place.max()) + 1
    once = [np.bincount(each, minlength=size) for each in (place[: len(unknown)], place[len(unknown) :])]

    def measured(counts: Sequence[NDArray[np.int64]]) -> NDArray[np.floating]:
        found = Counted(*(each.cumsum(1).astype(np.float64) for each in counts))
        return np.stack([average_precision(found), false_positive_rate(found)])

    def drawn(samples: int) -> NDArray[np.floating]:
        return measured([generator.multinomial(each.sum(), each / each.sum(), samples) for each in once])

    others = np.concatenate([drawn(samples) for samples in in_parts(RESAMPLED, max(1, NUMBERS // size))], 1)
    first = measured([each[None] for each in once])[:, 0]
    return _interval(first[0], others[0]), _interval(first[1], others[1])


def _interval(first: float, others: Values) -> IntervalEstimate:
    low, high = np.quantile(others, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return IntervalEstimate(float(first), min(float(low), float(first)), max(float(high), float(first)))


def average_precision(found: Counted) -> Values:
    """``sum_t (recall_t - recall_{t-1}) precision_t`` over distinct scores, of each sample."""
    recall = found.unknown / found.unknown[:, -1:]
    precision = found.unknown / np.maximum(found.unknown + found.known, 1)
    return (np.diff(recall, prepend=0, axis=1) * precision).sum(1)


def false_positive_rate(found: Counted, power: float = POWER) -> Values:
    """Share of known rows at or above the score that ``power`` of the unknown ones reach, of each sample."""
    reached = (found.unknown >= power * found.unknown[:, -1:] - 1e-9).argmax(1)
    return np.asarray(found.known[np.arange(len(reached)), reached] / found.known[:, -1])
