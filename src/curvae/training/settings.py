"""What a run was asked to do, and how its epochs are divided among the stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curvae.limits import check_seed
from curvae.systems import Cosine
from curvae.systems.stages import Schedule

MOST = {"epochs": 10**7, "batch_size": 10**9, "max_skipped": 10**9, "devices": 10**4}
"""More is a slip of the hand, and would take for ever."""
PRECISIONS = ("32-true", "tf32", "bf16-mixed")
SCHEDULES: dict[str, Schedule | None] = {"constant": None, "cosine": Cosine()}


@dataclass(frozen=True)
class Settings:
    """The training arguments of a run; see :func:`curvae.fit`.

    Raises:
        ValueError: a value out of its range.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 5e-4
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    patience: int | None = None
    max_skipped: int = 20
    devices: int = 1
    compile: bool = False
    average: float = 0.0
    schedule: str = "constant"
    clip: float | None = None

    def __post_init__(self):
        for name, most in MOST.items():
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}.")
            if value > most:
                raise ValueError(f"{name}: expected at most {most:,}, got {value:,}.")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience: expected 1 epoch or more, or None for no early stopping; got {self.patience}.")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate: expected a positive number, got {self.learning_rate}.")
        if not 0 <= self.average <= 1:
            raise ValueError(f"average: expected a share of an epoch's steps, in [0, 1]; got {self.average}.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}; got {self.schedule!r}.")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a positive norm of the gradient, or None; got {self.clip}.")
        check_seed(self.seed)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}; got {self.precision!r}.")

    @property
    def schedule_of_rate(self) -> Schedule | None:
        """What the learning rate follows; None = it stays as it is."""
        return SCHEDULES[self.schedule]


def divide(epochs: int, shares: Sequence[float]) -> list[int]:
    """Whole epochs in proportion to the shares, at least 1 each but where a share is 0, by largest remainders.

    Raises:
        ValueError: fewer epochs than stages that have a share.

    Example:
        >>> divide(20, [0.5, 0.5]), divide(7, [2, 0, 1]), divide(3, [0.01, 0.99]), divide(5, [0])
        ([10, 10], [5, 0, 2], [1, 2], [0])
    """
    stages = sum(share > 0 for share in shares)
    if epochs < stages:
        raise ValueError(f"epochs: expected {stages} or more, one for each stage of training; got {epochs}.")
    wanted = [epochs * share / max(sum(shares), 1e-300) for share in shares]
    counts = [max(1, math.floor(want)) if want > 0 else 0 for want in wanted]
    while stages and sum(counts) != epochs:
        short = [want - count for want, count in zip(wanted, counts, strict=True)]
        if sum(counts) < epochs:
            counts[int(np.argmax(short))] += 1
        else:
            counts[int(np.argmin([s if c > 1 else math.inf for s, c in zip(short, counts, strict=True)]))] -= 1
    return counts


def derive(seed: int, *place: int) -> int:
    """A seed of its own for a place of the run (which stream, which epoch, which process), in [0, 2^32).

    Every epoch is seeded anew, so a run that was cut off goes on with the same random numbers.
    """
    return int(np.random.SeedSequence((seed, *place)).generate_state(1)[0])
