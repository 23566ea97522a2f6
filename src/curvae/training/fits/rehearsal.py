"""What a run would take: a few steps of each stage on a copy of the system, timed; nothing is written."""

import copy
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch

from curvae.data import Data
from curvae.noise import keep_random_states
from curvae.systems import Stage, System
from curvae.systems.device import batch_to_system
from curvae.training.fits.fit import check_run
from curvae.training.loop.loader import Batches, sizes
from curvae.training.setup.devices import resolve_device
from curvae.training.setup.length import Length, lengths
from curvae.training.setup.recommended import recommended
from curvae.training.setup.settings import CompleteSettings, TrainingSettings

WARM, TIMED, ENOUGH = 2, 10, 3.0
"""Steps before those that are timed, these, and seconds after which there are no more of them."""


class Rehearsed(NamedTuple):
    """What a stage would take."""

    stage: str
    updates: int
    """At most: patience may end it before."""
    step: float
    """Seconds of one."""

    @property
    def seconds(self) -> float:
        """Of the stage, validation and saving apart."""
        return self.updates * self.step


class Rehearsal(NamedTuple):
    """What a run would take."""

    settings: CompleteSettings
    parameters: int
    stages: tuple[Rehearsed, ...]
    memory: int | None
    """Most bytes that this process has had, on a GPU those of its tensors; None where the system does not tell."""


def rehearse(system: System, data: Data, settings: TrainingSettings) -> Rehearsal:
    """Time a few steps of each stage, after what prepares it; the system and all random states stay as they are.

    Args:
        system: what would be trained.
        data: on what.
        settings: how.

    Raises:
        ValueError: as a run of them would, before its first step.

    Example:
        >>> import curvae
        >>> data = curvae.data.load("digits")
        >>> found = rehearse(curvae.systems.vae(data.spec, latent=2, hidden=8), data, TrainingSettings(epochs=3))
        >>> found.parameters, [(each.stage, each.updates) for each in found.stages], found.stages[0].step > 0
        (1301, [('train', 30)], True)
    """
    chosen = recommended(settings, system, data)
    check_run(system, data, chosen)
    device = resolve_device(chosen.device, chosen.devices)
    count = sum(parameter.numel() for parameter in system.parameters())
    with keep_random_states():
        torch.manual_seed(chosen.seed)
        tried, moved = copy.deepcopy(system).to(device), data.to(device)
        stages = tried.stages()
        each = zip(stages, lengths(chosen.length, stages), strict=True)
        found = tuple(_tried(tried, moved, chosen, stage, length) for stage, length in each)
    return Rehearsal(chosen, count, found, _most_bytes(device))


def _tried(system: System, data: Data, settings: CompleteSettings, stage: Stage, length: Length) -> Rehearsed:
    """One stage: prepared, then stepped."""
    start = () if system.trained or stage.start is None else (stage.start,)
    for prepare in (*start, *stage.prepare):
        prepare(system, data)
    if not length.amount:
        return Rehearsed(stage.name, 0, 0.0)
    step = statistics.median(islice(_times(system, data, settings, stage), WARM, WARM + TIMED))
    return Rehearsed(stage.name, _updates(length, step, len(sizes(len(data.train), settings.batch_size))), step)


def _updates(length: Length, step: float, batches: int) -> int:
    if length.unit == "minutes":
        return int(60 * length.amount / step)
    return int(length.amount) * (batches if length.unit == "epochs" else 1)


def _times(system: System, data: Data, settings: CompleteSettings, stage: Stage) -> Iterator[float]:
    """Seconds of one step after another, for a while."""
    learning = {name: parameter for name, parameter in system.named_parameters() if parameter.requires_grad}
    for name, parameter in learning.items():
        parameter.requires_grad_(name.startswith(stage.trained))
    optimizer = (stage.optimizer or (lambda each: torch.optim.Adam(each, lr=1e-6)))(learning.values())
    system.train()
    begin, batches = time.perf_counter(), Batches(data.train, settings.batch_size, passes=WARM + TIMED)
    for number, shard in enumerate(batches):
        if number > WARM and time.perf_counter() - begin > ENOUGH:
            break
        before = time.perf_counter()
        for _ in range(stage.repeat):
            optimizer.zero_grad()
            (-stage.bound_of(system, batch_to_system(system, shard.batch)).surrogate.mean()).backward()
            optimizer.step()
        yield time.perf_counter() - before
    for parameter in learning.values():
        parameter.requires_grad_(True)


def _most_bytes(device: str) -> int | None:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
