"""The phases of training as plain data: a :class:`Stage`, and the values that stages are put together from.

Nothing here refers to a system. Every callable is given the system that is trained, so a copied, pickled or reloaded
system trains itself. What belongs to one part of a system names it by its path among the system's modules, as
``torch.nn.Module.get_submodule`` does: ``"inference.start"``.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from curvae.inference import m_step
from curvae.likelihoods import HasNoise
from curvae.networks import over_exposure
from curvae.objectives import Bound, Objective
from curvae.systems.counted import counted
from curvae.typing import Batch, Remembers, Tables

if TYPE_CHECKING:
    from curvae.systems.base import System

Maximized = Callable[[Any, Batch], Bound]
"""(system, batch) -> the bound that a stage maximizes: a function of a module, or a frozen dataclass."""

Prepared = Callable[[Any, Tables], None]
"""(system, data) -> None: sets what has a closed form."""

Schedule = Callable[[float], float]
"""Share of a stage's steps that are done, in [0, 1), -> factor on the learning rate."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its options, made for the parameters that a stage trains.

    Example:
        >>> make = Optimizer(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9})
        >>> make([nn.Parameter(torch.zeros(3))]).defaults["momentum"]
        0.9
    """

    kind: Callable[..., torch.optim.Optimizer]
    options: dict[str, Any]

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self.kind(parameters, **self.options)


@dataclass(frozen=True)
class Stage:
    """One phase of training: plain, comparable, picklable.

    Args:
        name: for messages and metrics.
        trained: prefixes of parameter names; all others are frozen.
        bound: what is maximized; None = ``System.bound``.
        judged: what the validation data are judged by, and the best weights chosen; None = what is maximized.
        start: where weights start: called before the stage, with the system and the data, unless the system has been
            trained before.
        prepare: called in turn before the stage, in every case.
        finish: called after each epoch, for the weights that are validated and kept and for these alone: what has a
            closed form, given the rest.
        optimizer: None = that of the run.
        schedule: of the learning rate over the stage's steps; None = that of the run.
        clip: largest norm of the gradient; None = that of the run.
        repeat: optimizer steps per batch.
        monitor: field of the bound by which early stopping and the best checkpoint are chosen.
        share: of the run's time, relative to the other stages; 0 = prepare and finish only, no update.
        cost: of an update in time, relative to the other stages: by it a length in epochs or updates is divided.
        joined: whether it goes on in the cycle of learning rates, and with the optimizer, of the stage before it.
        keep: the weights that go on from here: of the best epoch, of the last one, or of the last one with those of
            every epoch saved beside it (``RunFolder.snapshots``).

    Raises:
        ValueError: a negative share, a cost or clip that is not positive, fewer than 1 step per batch.

    Example:
        >>> Stage("climb", share=0.8) == Stage("climb", share=0.8)
        True
    """

    name: str
    trained: tuple[str, ...] = ("",)
    bound: Maximized | None = None
    prepare: tuple[Prepared, ...] = ()
    finish: tuple[Prepared, ...] = ()
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None
    schedule: Schedule | None = None
    clip: float | None = None
    repeat: int = 1
    monitor: Literal["value", "surrogate"] = "value"
    share: float = 1.0
    cost: float = 1.0
    joined: bool = False
    keep: Literal["best", "last", "snapshots"] = "best"
    start: Prepared | None = None
    judged: Maximized | None = None

    def __post_init__(self):
        if not (self.share >= 0 and math.isfinite(self.share)):
            raise ValueError(f"Stage.share: expected 0 or more, got {self.share}.")
        if not (self.cost > 0 and math.isfinite(self.cost)):
            raise ValueError(f"Stage.cost: expected a positive number, got {self.cost}.")
        if self.repeat < 1:
            raise ValueError(f"Stage.repeat: expected 1 or more, got {self.repeat}.")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"Stage.clip: expected a positive norm, or None for the run's; got {self.clip}.")

    def joins(self, before: "Stage") -> bool:
        """Whether the optimizer of the stage before goes on: it must be of the same kind, for the same parameters."""
        return self.joined and (self.trained, self.optimizer) == (before.trained, before.optimizer)

    def bound_of(self, system: "System", batch: Batch) -> Bound:
        """What is maximized for a batch."""
        return system.bound(batch) if self.bound is None else self.bound(system, batch)

    def judge(self, system: "System", batch: Batch) -> Bound:
        """What a batch of the validation data is judged by."""
        return self.bound_of(system, batch) if self.judged is None else self.judged(system, batch)


def initialize_likelihood(system: Any, data: Tables) -> None:
    """The likelihood's own parameters start from the training data: the output variance, say."""
    if isinstance(likelihood := system.model.likelihood, HasNoise):
        rows = counted(data.train)
        errors = () if rows.context is None or rows.context.errors is None else (rows.context.errors,)
        likelihood.initialize(over_exposure(rows.x, rows.context), rows.mask, *errors)


@dataclass(frozen=True)
class Remember:
    """A module keeps a state for each training example from here on: modes, chains; none is known yet.

    Args:
        path: of the module, which is a :class:`curvae.typing.Remembers`.
    """

    path: str = "inference"

    def __call__(self, system: Any, data: Tables) -> None:
        module = system.get_submodule(self.path)
        if not isinstance(module, Remembers):
            raise ValueError(
                f"Remember: expected a module that remembers at {self.path!r}; got {type(module).__name__}."
            )
        module.remember(data.train.total, system.model.prior)


@dataclass(frozen=True)
class BoundBy:
    """The bound with another of a system's inference methods in the place of the whole: the encoder alone, say.

    Args:
        path: of the inference method.
        steps: of refinement, where it takes another number than its own.
        objective: in place of the system's.
    """

    path: str = "inference"
    steps: int | None = None
    objective: Objective | None = None

    def __call__(self, system: Any, batch: Batch) -> Bound:
        return system.bound_by(self.path, batch, self.steps, self.objective)


@dataclass(frozen=True)
class RefitNoise:
    """The likelihood's own parameters under a refined posterior: the M-step, see :func:`curvae.inference.m_step`.

    Args:
        path: of the inference method.
        steps: of refinement.
        rows: training rows that it is taken from, evenly spread.
    """

    path: str = "inference"
    steps: int | None = None
    rows: int = 512

    def __call__(self, system: Any, data: Tables) -> None:
        batch = counted(data.train)
        rows = torch.linspace(0, len(batch.x) - 1, min(len(batch.x), self.rows)).long()
        m_step(system.model, system.get_submodule(self.path), batch.take(rows), self.steps)


def single(start: Prepared = initialize_likelihood) -> tuple[Stage]:
    """One stage, which begins at such a start."""
    return (Stage("train", start=start),)


def warmed_up(
    stage: Stage,
    share: float,
    bound: Maximized,
    start: Prepared = initialize_likelihood,
    name: str = "vae",
    judged: Maximized | None = None,
) -> tuple[Stage, ...]:
    """A stage after one that maximizes another, cheaper bound for a share of the time; the first begins at ``start``.

    Both are one cycle of learning rates. What is ``judged`` in the first may be what counts in the second: a decoder
    may still improve where the cheaper bound, that of an encoder on new data, falls.

    Raises:
        ValueError: a share outside [0, 1).

    Example:
        >>> [each.share for each in warmed_up(Stage("laplace"), 0.25, BoundBy("inference.start"))]
        [0.25, 0.75]
    """
    if not 0 <= share < 1:
        raise ValueError(f"warmup is a share of the time, in [0, 1); got {share}.")
    if share == 0:
        return (replace(stage, start=start),)
    first = Stage(name, bound=bound, start=start, share=share, judged=judged)
    return first, replace(stage, share=1 - share, joined=True)
