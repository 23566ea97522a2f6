"""A system for tests of training: two stages, state, a table with a row for each datum, and bombs."""

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from curvae.data import Data, from_array
from curvae.objectives import Bound
from curvae.systems import Optimizer, Stage, System, Weights
from curvae.training import RunFolder
from curvae.training.loop import checkpoint
from curvae.typing import Batch, Tables

FEATURES = 3


def data_of(rows: int = 50) -> Data:
    """``rows`` training rows, 20 of validation, 10 of test."""
    array = np.random.default_rng(0).normal(size=(rows + 30, FEATURES)).astype(np.float32) + 1.0
    return from_array(array[:-10], test=array[-10:], split=(rows / (rows + 20), 20 / (rows + 20), 0.0))


class Counter(nn.Module):
    """Counts training steps in a buffer."""

    step: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.long))


class Toy(System):
    """bound = -|x - center|^2 - (scale - 2)^2, with as much noise as asked for."""

    per_example = ("visits",)
    visits: Tensor
    seen: Tensor

    def __init__(self, noise: float = 0.0):
        super().__init__()
        self.center = nn.Parameter(torch.zeros(FEATURES))
        self.scale = nn.Parameter(torch.zeros(()))
        self.counter = Counter()
        self.register_buffer("visits", torch.zeros(0))
        self.register_buffer("seen", torch.zeros(FEATURES))
        self.noise = noise
        self.prepared: list[str] = []
        self.calls = 0
        self.at: dict[int, Callable[[Bound], Bound]] = {}
        """What happens to the bound of a training call of this number, from 1."""

    def bound(self, batch: Batch) -> Bound:
        x = batch.x + self.noise * torch.randn_like(batch.x)
        value = -(x - self.center).square().sum(-1) - (self.scale - 2).square()
        visits = self.visits[batch.index.clamp(min=0)] + 1 if len(self.visits) else torch.zeros(len(x))
        state = {"counter.step": self.counter.step + 1, "visits": visits, "seen": batch.x.mean(0)}
        info = {"status": (batch.x[:, :1] > torch.tensor([0.0, 1.0])).sum(1), "kl": torch.ones(len(x))}
        bound = Bound(value.detach(), value, info, state)
        if not torch.is_grad_enabled():
            return bound
        self.calls += 1
        return self.at.get(self.calls, lambda each: each)(bound)

    def shifted(self, batch: Batch) -> Bound:
        bound = self.bound(batch)
        return bound._replace(value=bound.value - 100)

    def stages(self) -> tuple[Stage, ...]:
        second = Stage(
            "two", ("scale",), Toy.shifted, (Toy.note,), optimizer=Optimizer(torch.optim.SGD, {"lr": 0.05}),
            repeat=2, monitor="surrogate",
        )  # fmt: skip
        return Stage("one", ("center",), prepare=(Toy.size,)), second

    def note(self, data: Tables) -> None:
        self.prepared.append("two")

    def size(self, data: Tables) -> None:
        self.prepared.append("one")
        self.remember(len(data.train))

    def remember(self, rows: int, prior: object = None) -> None:
        self.visits = torch.zeros(rows)

    def log_weights(self, batch: Batch, n: int, generator: torch.Generator | None = None) -> Weights:
        value = self.bound(batch).value.expand(n, -1)
        return Weights(value, torch.full_like(value, -math.log(n)))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.center + torch.randn(n, FEATURES, generator=generator)


def not_finite(bound: Bound) -> Bound:
    return bound._replace(surrogate=bound.surrogate * torch.nan)


def interrupt(bound: Bound) -> Bound:
    raise KeyboardInterrupt


def kill(bound: Bound) -> Bound:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def save_always() -> None:
    checkpoint.SAVE_EVERY, checkpoint.SAVE_SHARE = 0.0, 1e9


def columns(run: RunFolder, *names: str) -> list[list[float]]:
    metrics = run.metrics()
    return [metrics[name] for name in names]


def content(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}
