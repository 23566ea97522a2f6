"""What a statistical test measures, and how seldom chance alone makes it fail.

A statistical test states the law of its statistic and checks it by one of the functions below, which also keep the
statistic and its threshold: ``make seeds`` collects them over many seeds, and docs/studies/seeds.md shows
what came out.

- :func:`deviates`: numbers that are standard normal when all is right, by an exact law or the central limit theorem;
- :func:`format_p_value`: the p-value of an exact law, uniform when all is right;
- :func:`within` and :func:`beyond`: any other statistic and its limit, whose failure rate is seen from its tail.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm

SIGMAS = 5.0
"""Of a standard normal number; beyond it once in 1.7 million times."""
LEAST = 1e-6
"""p-values below it fail."""


class Check:
    """The largest value of one statistic in a test, its threshold, and the rate at which chance exceeds it."""

    def __init__(self, threshold: float, rate: float | None):
        self.statistic, self.threshold, self.rate = -np.inf, threshold, rate

    def see(self, statistic: float) -> None:
        """NaN stays."""
        self.statistic = float(np.maximum(self.statistic, statistic))


_checks: dict[str, Check] = {}
"""Of the test that runs."""


def within(name: str, statistic: ArrayLike, threshold: float, rate: float | None = None) -> None:
    """The statistic, or each of them, is at most the threshold; ``rate`` is the probability of more, where known."""
    worst = float(np.max(np.asarray(statistic, dtype=np.float64)))
    if name in _checks and rate is not None:
        _checks[name].rate += rate
    _checks.setdefault(name, Check(threshold, rate)).see(worst)
    assert worst <= threshold, f"{name}: expected at most {threshold:.5g}; got {worst:.5g}"


def beyond(name: str, statistic: ArrayLike, threshold: float) -> None:
    """The statistic, or each of them, is at least the threshold; both are kept with their signs turned."""
    within(name, -np.asarray(statistic, dtype=np.float64), -threshold)


def deviates(name: str, values: ArrayLike, sides: int = 2) -> None:
    """Standard normal numbers, however they depend on one another: none is 5 or more from 0; above, if of one side."""
    values = np.asarray(values, dtype=np.float64)
    rate = values.size * sides * float(norm.sf(SIGMAS))
    within(name, np.abs(values) if sides == 2 else values, SIGMAS, rate)


def means(name: str, draws: ArrayLike, expected: ArrayLike = 1.0) -> None:
    """Means over the first axis of many independent draws with light tails, by the central limit theorem."""
    draws = np.asarray(draws, dtype=np.float64)
    deviates(name, (draws.mean(0) - np.asarray(expected)) / (draws.std(0, ddof=1) / np.sqrt(len(draws))))


def chi_square(name: str, values: ArrayLike) -> None:
    """Independent standard normal numbers, by the sum of their squares."""
    values = np.asarray(values, dtype=np.float64)
    law, found = chi2(values.size), float(np.square(values).sum())
    p_value(name, two_sided(law.cdf(found), law.sf(found)))


def p_value(name: str, p: ArrayLike) -> None:
    """p-values, uniform or larger: none is below one in a million. Kept as ``-log10 p``."""
    p = np.asarray(p, dtype=np.float64)
    within(name, -np.log10(np.maximum(p, 1e-300)), -np.log10(LEAST), LEAST * p.size)


def repetitions(values: ArrayLike, claims: ArrayLike) -> np.ndarray:
    """The p-value of the spread of n independent estimates: in units of their standard errors a chi-square of n - 1."""
    values, claims = np.asarray(values), np.asarray(claims)
    found, law = values.var(ddof=1) * (values.size - 1) / np.square(claims).mean(), chi2(values.size - 1)
    return two_sided(law.cdf(found), law.sf(found))


def two_sided(lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """The p-value of a statistic from both tails of its law."""
    return np.minimum(1.0, 2 * np.minimum(lower, upper))


@contextmanager
def recorded(test: str, seed: int, file: Path | None) -> Iterator[None]:
    """Append what a test checked as a line of JSON, whether it holds or not, if a file is given."""
    _checks.clear()
    begin = time.process_time()
    yield
    if file is not None and _checks:
        checks = {name: [each.statistic, each.threshold, each.rate] for name, each in _checks.items()}
        line = {"test": test, "seed": seed, "seconds": round(time.process_time() - begin, 3), "checks": checks}
        with file.open("a") as out:
            out.write(json.dumps(line) + "\n")
