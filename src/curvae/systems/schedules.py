"""Factors on the learning rate over a stage."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Steady:
    """The same factor throughout, whatever the run's schedule: an optimizer that is to keep moving.

    Example:
        >>> Steady(0.3)(0.9)
        0.3
    """

    factor: float = 1.0

    def __call__(self, done: float) -> float:
        return self.factor


@dataclass(frozen=True)
class Cosine:
    """A linear rise over the first share of the steps, then half a cosine down to ``end``.

    Args:
        warmup: share of the steps, in [0, 1).
        end: the factor that it falls to.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> schedule = Cosine(warmup=0.1)
        >>> [round(schedule(done), 2) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.05
    end: float = 0.0

    def __post_init__(self):
        if not (0 <= self.warmup < 1 and 0 <= self.end <= 1):
            raise ValueError(f"Cosine: expected warmup in [0, 1) and end in [0, 1]; got {self.warmup} and {self.end}.")

    def __call__(self, done: float) -> float:
        if done < self.warmup:
            return done / self.warmup
        falling = (done - self.warmup) / (1 - self.warmup)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * falling))
