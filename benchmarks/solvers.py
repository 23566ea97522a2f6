"""How far each solver of the mode search gets, and what that costs: frozen decoders, test data, one thread, float32.

The decoders are trained here, a few epochs each. Every search begins at the encoder's mean, and a datum is left out of
further steps once it can gain 0.01 nats at most. The gap is to the best log joint that any search of this benchmark has
found for the datum. Seconds are CPU time, the median of repeats in turns; counts are of evaluations per datum.

    python benchmarks/solvers.py [NAME ...] [--data-dir DATA] [--repeats 3]
    python benchmarks/solvers.py --table      # writes the file's tables into docs/studies/solvers.md, no measurement
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

import curvae
from curvae import training
from curvae.curvature import (
    ROUTES,
    ConjugateGradient,
    Gradient,
    LevenbergMarquardt,
    Linearization,
    Newton,
    PaperSchedule,
    Solver,
    linearize,
    native,
)
from curvae.data import Data
from curvae.inference import Laplace
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.systems import LatentSystem, vae, vlae
from curvae.typing import Batch
from solvers_page import publish

COUNT, BATCH = 512, 128
TOLERANCE = 0.01
SOLVERS: dict[str, tuple[Solver, tuple[int, ...]]] = {
    "paper schedule": (Newton(PaperSchedule(), bfgs=0), (1, 2, 4, 8, 16)),
    "Newton": (Newton(bfgs=0), (1, 2, 3, 4, 6, 8)),
    "Newton, 3 BFGS": (Newton(bfgs=3), (1, 2, 3, 4)),
    "Newton, 8 BFGS": (Newton(bfgs=8), (1, 2, 3)),
    "Levenberg-Marquardt": (LevenbergMarquardt(), (1, 2, 3, 4, 6, 8)),
    "Gauss-Newton CG, 3": (ConjugateGradient(iterations=3), (1, 2, 4, 8, 16)),
    "Gauss-Newton CG, 8": (ConjugateGradient(iterations=8), (1, 2, 4, 8)),
    "gradient": (Gradient(), (4, 16, 64)),
}
SINGLE = (2, 4, 8, 16)
"""BFGS steps from a single Lam; each is a solver of its own."""
STEPS, BFGS = (1, 2, 3, 4), (0, 2, 4, 8, 12)
"""Of the patterns: what ``Laplace(start, steps, Newton(bfgs=bfgs))`` does, its last step included."""


class Case(NamedTuple):
    """A decoder and where the searches of its batches begin."""

    model: LatentVariableModel
    batches: list[Batch]
    starts: list[Tensor]

    @classmethod
    def of(cls, system: LatentSystem, x: Tensor) -> "Case":
        """The first data of a table, begun at the encoder's mean."""
        system.eval().requires_grad_(False)
        batches = [Batch.of(part) for part in x[:COUNT].split(BATCH)]
        first = system.inference.start if isinstance(system.inference, Laplace) else system.inference
        return cls(system.model, batches, [first(system.model, batch).posterior.center for batch in batches])

    def run(self, search: Callable[[Linearization], Tensor]) -> list[Tensor]:
        """Where a search leads every batch."""
        return [search(self.near(batch, z)) for batch, z in zip(self.batches, self.starts, strict=True)]

    def near(self, batch: Batch, z: Tensor) -> Linearization:
        """By the cheapest route that fits."""
        return linearize(self.model, batch, z)

    def level(self, ends: list[Tensor]) -> Tensor:
        """``log p(x, z)`` in float64."""
        model = self.model.double()
        found = [model.log_joint(batch.x.double(), z.double()) for batch, z in zip(self.batches, ends, strict=True)]
        self.model.float()
        return torch.cat(found)


@contextmanager
def counting(counts: Counter[str]) -> Iterator[None]:
    """Count the data of what is asked for meanwhile; compiled code, which could not be seen, is off."""

    def watched(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(near: Linearization, *rest: Tensor) -> Any:
            counts[kind] += len(near.z)
            return function(near, *rest)

        return call

    kinds = {"grad": "gradients", "local": "precisions", "product": "products"}
    places = [(Linearization, name, kind) for name, kind in kinds.items()]
    places += [(route, "_evaluated", "log_joints") for route in ROUTES]
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, CURVAE_KERNEL="0"))
        for owner, name, kind in places:
            stack.enter_context(patch.object(owner, name, watched(getattr(owner, name), kind)))
        yield


def search_by(solver: Solver, steps: int) -> Callable[[Linearization], Tensor]:
    """The search alone."""
    return lambda near: solver.search(near, steps, TOLERANCE)[0].z


def pattern(steps: int, bfgs: int) -> Callable[[Linearization], Tensor]:
    """The value of ``Laplace``: all steps but one by the solver, then a plain Newton step; its own tolerance."""
    solver, last = Newton(bfgs=bfgs), Newton(bfgs=0)
    return lambda near: last.search(solver.search(near, steps - 1, 0.1)[0], 1)[0].z


def searches() -> dict[tuple[str, int], Callable[[Linearization], Tensor]]:
    """Everything that is measured, by solver and steps."""
    found = {(name, steps): search_by(solver, steps) for name, (solver, every) in SOLVERS.items() for steps in every}
    single = {("BFGS, one precision", bfgs): search_by(Newton(bfgs=bfgs), 1) for bfgs in SINGLE}
    patterns = {(f"pattern {bfgs}", steps): pattern(steps, bfgs) for steps in STEPS for bfgs in BFGS}
    return found | single | patterns


def counts_of(case: Case, search: Callable[[Linearization], Tensor]) -> dict[str, float]:
    """Evaluations per datum."""
    counts: Counter[str] = Counter()
    with counting(counts):
        case.run(search)
    total = sum(len(z) for z in case.starts)
    return {name: counts[name] / total for name in ("log_joints", "gradients", "precisions", "products")}


@torch.no_grad()
def measure(case: Case, repeats: int) -> dict[str, Any]:
    """Gap, time and counts of every search."""
    every = searches()
    levels = {key: case.level(case.run(search)) for key, search in every.items()}
    long = case.run(lambda near: Newton(bfgs=8).search(near, 40)[0].z)
    best = torch.stack([case.level(long), *levels.values()]).amax(0)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in every}
    for _ in range(repeats):
        for key, search in every.items():
            begin = time.process_time()
            case.run(search)
            seconds[key].append(time.process_time() - begin)
    rows: dict[str, list[dict[str, float]]] = {}
    for (name, steps), level in levels.items():
        spent = 1e6 * statistics.median(seconds[name, steps]) / len(best)
        row = {"steps": steps, **gap(best - level), "microseconds": spent}
        rows.setdefault(name, []).append(row | counts_of(case, every[name, steps]))
    patterns = {name.removeprefix("pattern "): rows.pop(name) for name in list(rows) if name.startswith("pattern")}
    sizes = {"data": len(best), "latent": case.starts[0].shape[-1], "outputs": case.batches[0].x[0].numel()}
    route = type(case.near(case.batches[0], case.starts[0])).__name__
    start = gap(best - case.level(case.starts))
    return {**sizes, "route": route, "start": start, "solvers": rows, "patterns": patterns}


def gap(missed: Tensor) -> dict[str, float]:
    """Nats below the best, over the data: mean, median, and what 1 % of them exceed."""
    return {"mean": missed.mean().item(), "median": missed.median().item(), "worst": missed.quantile(0.99).item()}


def trained(system: LatentSystem, data: Data, epochs: int, learning_rate: float) -> Case:
    """After a training of its own."""
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            system, data, epochs, batch_size=128, learning_rate=learning_rate, seed=0, out=f"{folder}/run",
            device="cpu", progress=False
        )  # fmt: skip
    return Case.of(system, data.test.x)


def digits() -> Case:
    """ReLU, a Gaussian output."""
    data = curvae.data.load("digits")
    return trained(vlae(data.spec, latent=8, hidden=128), data, 60, 2e-3)


def binary() -> Case:
    """Tanh, binary pixels."""
    data = curvae.data.load("digits", binarize="static")
    return trained(vae(data.spec, latent=8, decoder=MLP(8, [128, 128], 64, nn.Tanh)), data, 60, 2e-3)


def mnist(make: Callable[..., LatentSystem], folder: Path | None, latent: int = 16, hidden: int = 256) -> Case:
    """The small network of docs/studies/comparison.md, after 10 of its 40 epochs, or a wider one."""
    data = curvae.data.load("mnist", data_dir=folder)
    return trained(make(data.spec, latent=latent, hidden=hidden), data, 10, 5e-4)


CASES: dict[str, Callable[[Path | None], Case]] = {
    "MNIST, VLAE": lambda folder: mnist(vlae, folder),
    "MNIST, VAE": lambda folder: mnist(vae, folder),
    "MNIST, VAE, wider": lambda folder: mnist(vae, folder, 50, 500),
    "digits, VLAE": lambda folder: digits(),
    "binary digits, tanh, VAE": lambda folder: binary(),
}


def update(target: Path, name: str, case: Case, repeats: int) -> None:
    """Measure one decoder and keep what the file says of the others."""
    how = {"torch": torch.__version__, "kernel": native.available(), "batch": BATCH, "tolerance": TOLERANCE}
    found = measure(case, repeats)
    models = json.loads(target.read_text())["models"] if target.exists() else {}
    models[name] = found
    content = {"how": how | {"repeats": repeats}, "models": {each: models[each] for each in CASES if each in models}}
    target.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Measure unless only the page is asked for, then write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decoders", nargs="*", metavar="NAME", help=f"of {list(CASES)}; default: all")
    parser.add_argument("--data-dir", type=Path, default=None, help="of MNIST; downloaded if not there")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "results" / "solvers.json")
    chosen = parser.parse_args()
    if not chosen.table:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        for name in chosen.decoders or CASES:
            torch.manual_seed(0)
            update(chosen.target, name, CASES[name](chosen.data_dir), chosen.repeats)
            print(f"{name}: {time.process_time():.0f} CPU seconds so far", flush=True)
    publish(json.loads(chosen.target.read_text()))


if __name__ == "__main__":
    main()
