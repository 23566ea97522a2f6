"""Systems trained alike on the 8 x 8 digits, and compared with the first of them, paired by datum and seed."""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import curvae
from curvae import training
from curvae.data import ArrayTable, Data
from curvae.evaluation import Estimate, score
from curvae.likelihoods import Gaussian
from curvae.systems import LatentSystem
from curvae.typing import DataSpec
from pages import between

SIZES = {"latent": 8, "hidden": 64, "depth": 2}
SAMPLES = 100

Make = Callable[[DataSpec], LatentSystem]
Scores = dict[str, np.ndarray]
Row = dict[str, Any]


def alike(make: Callable[..., LatentSystem], **options: Any) -> Make:
    """A system with the likelihood that all have, and their sizes unless it names its own."""
    return lambda spec: make(spec, **SIZES | options, likelihood=Gaussian(spec.event, learn="shared"))


def first(table: ArrayTable, count: int) -> ArrayTable:
    """The first rows of a table."""
    label = None if table.label is None else table.label[:count]
    return replace(table, raw=table.raw[:count], label=label)


def measure(make: Make, data: Data, seed: int, epochs: int, rate: float = 2e-3) -> tuple[LatentSystem, Scores, float]:
    """The trained system, its scores of each test datum, and the CPU seconds of training."""
    torch.manual_seed(seed)
    system = make(data.spec)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            system, data, epochs, batch_size=100, learning_rate=rate, seed=seed, out=f"{folder}/run", device="cpu",
            progress=False
        )  # fmt: skip
    seconds = time.process_time() - started
    return system, dict(score(system, data.test, samples=SAMPLES)), seconds


def row(kind: str, runs: Sequence[Scores], base: Sequence[Scores], seconds: Sequence[float]) -> Row:
    """Means over seeds and data; errors are over data, of their means over seeds."""
    names = {"log_likelihood": "log_likelihood_laplace", "own": "log_likelihood_own", "elbo": "elbo"}
    each = {name: np.stack([run[key] for run in runs]) for name, key in names.items()}
    ahead = each["log_likelihood"] - np.stack([run["log_likelihood_laplace"] for run in base])
    paired, gap = (Estimate.of(value.mean(0)) for value in (ahead, each["log_likelihood"] - each["elbo"]))
    return {
        "kind": kind,
        **{name: float(value.mean()) for name, value in each.items()},
        "gap": gap.value,
        "gap_stderr": gap.stderr,
        "difference": paired.value,
        "stderr": paired.stderr,
        "difference_of_each_seed": [float(value) for value in ahead.mean(1)],
        "ess_own": float(np.mean([run["ess_own"].mean() for run in runs])),
        "khat_above_0.7": float(np.mean([(run["khat_laplace"] > 0.7).mean() for run in runs])),
        "training_seconds": float(np.mean(seconds)),
    }


def compared(makers: Mapping[str, Make], seeds: Sequence[int], epochs: int, **how: Any) -> dict[str, Any]:
    """Train and score everything; the base, which is the first, is compared with itself too."""
    base, data, found, rows = next(iter(makers)), curvae.data.load("digits"), {}, {}
    for name, make in makers.items():
        trained = [measure(make, data, seed, epochs) for seed in seeds]
        found[name] = [scores for _, scores, _ in trained]
        rows[name] = one = row(trained[0][0].kind, found[name], found[base], [seconds for *_, seconds in trained])
        numbers = f"{one['log_likelihood']:8.2f} {one['difference']:+7.2f} {one['gap']:7.2f}"
        print(f"{name:>18} {numbers} {one['training_seconds']:6.1f} s", flush=True)
    setting = {"torch": torch.__version__, "threads": torch.get_num_threads(), "seeds": seeds, "samples": SAMPLES}
    parts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    return {"how": {**setting, "epochs": epochs, **SIZES, **how, **parts}, "base": base, "systems": rows}


def ahead(name: str, content: Mapping[str, Any]) -> str:
    """Two cells: how far a row is ahead of the base, and how far for each seed."""
    if name == content["base"]:
        return "0 | "
    one = content["systems"][name]
    seeds = ", ".join(f"{value:+.1f}" for value in one["difference_of_each_seed"])
    return f"{one['difference']:+.2f} ± {one['stderr']:.2f} | {seeds}"


def main(
    name: str, about: str, epochs: int, run: Callable[[int], dict[str, Any]], table: Callable[[dict[str, Any]], str]
) -> None:
    """Measure unless only the table is asked for, then write both: the numbers and the page of this name."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=here / "results" / f"{name}.json")
    chosen = parser.parse_args()
    if not chosen.table:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        chosen.target.parent.mkdir(exist_ok=True)
        chosen.target.write_text(json.dumps(run(chosen.epochs), indent=1) + "\n")
        print(f"{time.process_time():.0f} CPU seconds")
    page = here.parent / "docs" / f"{name}.md"
    begin, end = (f"<!-- benchmarks/{name}.py: {word} -->\n" for word in ("begin", "end"))
    page.write_text(between(page.read_text(), begin, end, table(json.loads(chosen.target.read_text()))))
