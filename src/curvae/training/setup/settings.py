"""What a run was asked to do."""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np

from curvae.argument_checks import check_seed
from curvae.systems import Cosine
from curvae.systems.stages import Schedule
from curvae.training.setup.length import Length, Unit

MOST = {"epochs": 10**7, "max_updates": 10**10, "batch_size": 10**9, "max_skipped": 10**9, "devices": 10**4}
"""More is a slip of the hand, and would take for ever."""
PRECISIONS = ("32-true", "tf32", "bf16-mixed")
SCHEDULES: dict[str, Schedule | None] = {"cosine": Cosine(), "constant": None}
UNITS: tuple[Unit, ...] = ("epochs", "max_updates", "minutes")


@dataclass(frozen=True)
class TrainingSettings:
    """The training arguments of a run; see :func:`curvae.fit`. None is what :func:`recommended` fills in.

    Raises:
        ValueError: a value out of its range, length said in more than one unit.
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    patience: float | int | None = 0.5
    """None in runs of before: never early."""
    max_skipped: int = 20
    devices: int = 1
    compile: bool = False
    average: float = 0.0
    schedule: str = "cosine"
    clip: float | None = 50.0
    max_updates: int | None = None
    minutes: float | None = None
    weight_decay: float = 0.0

    def __post_init__(self):
        for name, most in MOST.items():
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}.")
            if value is not None and value > most:
                raise ValueError(f"{name}: expected at most {most:,}, got {value:,}.")
        if len(self.said) > 1:
            raise ValueError(f"{self.said[0]}: expected one of {', '.join(UNITS)}, got {' and '.join(self.said)}.")
        if (p := self.patience) is not None and not (_number(p) and p >= 0 and (p < 1 or p == p // 1)):
            got = f"got {self.patience!r}; 0 = never early"
            raise ValueError(f"patience: expected a share of a stage below 1, or a whole number of epochs, {got}.")
        for name in ("learning_rate", "minutes"):
            if (value := getattr(self, name)) is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}: expected a positive number, got {value}.")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise ValueError(f"weight_decay: expected 0 or more, got {self.weight_decay}.")
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

    @property
    def said(self) -> list[Unit]:
        """The units that the length of the run is said in: one, or none where it is left open."""
        return [unit for unit in UNITS if getattr(self, unit) is not None]


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class CompleteSettings(TrainingSettings):
    """The same with nothing left open."""

    batch_size: int = 128
    learning_rate: float = 1e-3

    @property
    def length(self) -> Length:
        """Of the whole run, in the unit that it is said in."""
        (unit,) = self.said
        return Length(unit, getattr(self, unit))


def derive(seed: int, *place: int) -> int:
    """A seed of its own for a place of the run (which stream, which epoch, which process), in [0, 2^32).

    Every epoch is seeded anew, so a run that was cut off goes on with the same random numbers.
    """
    return int(np.random.SeedSequence((seed, *place)).generate_state(1)[0])
