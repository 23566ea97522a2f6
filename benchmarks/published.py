"""The published comparison of Park, Kim and Kim (ICML 2019): VAE, SA-VAE, Householder flow, IAF and VLAE, T = 1 to 8.

A cell is a data set with its preprocessing, a network, a method and a seed. Each is trained by ``curvae.fit`` in a
folder of its own and leaves one file in benchmarks/results/published; what is there already is not made again, and a
run that was cut off is taken up. The checkpoint is chosen on validation data; log p(x) of test data is measured with
the model's own posterior, as published, and with the common proposal.

    python benchmarks/published.py --data-dir DATA --epochs 16 --networks small --data mnist
    python benchmarks/published.py --data-dir DATA --minutes 10 --device cuda
    python benchmarks/published.py     # no training: writes the tables of docs/studies/published.md again
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import math
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import curvae
from curvae import training
from curvae.data import ArrayTable, Data, DataError
from curvae.training import RunError, RunFolder
from published_cells import DATASETS, METHODS, NETWORKS, ORDER, PUBLISHED, Cell, plan
from published_tables import publish

RESULTS = Path(__file__).parent / "results" / "published"
RUNS = Path("runs") / "published"
BATCH, RATE = 128, 5e-4
PROBE = 20
"""Batches by which the time of an epoch is found."""


@dataclass(frozen=True)
class Budget:
    """What each cell gets: epochs, or as many of them as fit into CPU minutes; and test data and draws."""

    epochs: int | None
    minutes: float | None
    samples: int
    limit: int | None

    def epochs_for(self, cell: Cell, data: Data, device: str) -> int:
        """Epochs of a cell; found by a trial of some batches where minutes are given."""
        if self.minutes is None:
            return self.epochs or 1
        most = max(1, int(60 * self.minutes / pace(cell, data, device)))
        return min(most, self.epochs or most)


def pace(cell: Cell, data: Data, device: str) -> float:
    """CPU seconds of an epoch, validation included, from trials of some batches."""
    share = min(1.0, PROBE * BATCH / len(data.train))
    some = replace(data, train=first(data.train, share), validation=first(data.validation, share))
    _, short, long = (trial(cell, some, device, epochs) for epochs in (1, 1, 3))
    return max(long - short, 1e-3) / 2 * len(data.train) / len(some.train)


def first(table: ArrayTable, share: float) -> ArrayTable:
    """That share of a table, its first rows."""
    count = math.ceil(share * len(table))
    return ArrayTable(table.raw[:count], table.transform, training=table.training)


def trial(cell: Cell, data: Data, device: str, epochs: int) -> float:
    """CPU seconds of so many epochs in a folder that is thrown away."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit(cell, data, epochs, Path(folder) / "run", device)
    return time.process_time() - started


def fit(cell: Cell, data: Data, epochs: int, folder: Path, device: str) -> RunFolder:
    """Train a cell's system as published: Adam at 5e-4, batches of 128."""
    torch.manual_seed(cell.seed)
    system = cell.system(data.spec)
    options = {"batch_size": BATCH, "learning_rate": RATE, "seed": cell.seed, "device": device}
    return training.fit(system, data, epochs=epochs, out=folder, progress=False, **options)


def trained(cell: Cell, data: Data, budget: Budget, folder: Path, device: str) -> tuple[RunFolder, float | None]:
    """The finished run of a cell, and the CPU seconds of its training where this process did all of it."""
    begun = folder.exists()
    if begun and (run := RunFolder.open(folder, data)).state == "finished":
        return run, None
    epochs = run.config["training"]["epochs"] if begun else budget.epochs_for(cell, data, device)
    started = time.process_time()
    run = fit(cell, data, epochs, folder, device)
    return run, None if begun else round(time.process_time() - started, 1)


def measure(cell: Cell, data: Data, budget: Budget, runs: Path, device: str) -> dict[str, Any]:
    """Everything about one cell."""
    run, cpu = trained(cell, data, budget, runs / cell.name, device)
    found = curvae.evaluate(run, data=data, progress=False, samples=budget.samples, device=device, limit=budget.limit)
    scores = curvae.evaluation.read_evaluation(run.path)[1]
    metrics = run.metrics()
    best = max(range(len(metrics["epoch"])), key=lambda i: metrics["validation_bound"][i])
    each = {"common": "log_likelihood_laplace", "own": "log_likelihood_own", "elbo": "elbo"}
    return {
        "cell": asdict(cell),
        "asked": asdict(budget),
        "training": {
            "epochs": metrics["epoch"][-1],
            "best_epoch": metrics["epoch"][best],
            "validation_bound": metrics["validation_bound"][best],
            "skipped_steps": sum(metrics["skipped"]),
            "cpu_seconds": cpu,
            "seconds": metrics["seconds"][-1],
            "batch_size": BATCH,
            "learning_rate": RATE,
        },
        "system": run.config["system"],
        "machine": {key: run.environment.get(key) for key in ("curvae", "torch", "device", "threads")},
        "data": {
            "name": data.spec.name,
            "unit": data.transform.unit,
            "checksum": data.checksum,
            "rows": [len(data.train), len(data.validation), len(data.test)],
        },
        "evaluation": found.to_dict(),
        "each": {name: [rounded(value) for value in scores[key].tolist()] for name, key in each.items()},
    }


def rounded(value: float) -> float | None:
    """Nats of one datum as the files hold them; None where they are not finite."""
    return round(value, 2) if math.isfinite(value) else None


def kept(path: Path, budget: Budget) -> bool:
    """Whether a cell's file is there.

    Raises:
        SystemExit: it was made with another budget.
    """
    if not path.exists():
        return False
    if (before := json.loads(path.read_text())["asked"]) != asdict(budget):
        raise SystemExit(f"{path} was made with another budget ({before}); ask for that, or choose other --results.")
    return True


def opened(name: str, data_dir: str | None) -> Data | None:
    """A data set; None, and a line that says so, where it is not there."""
    source, switches = DATASETS[name]
    try:
        return curvae.data.load(source, data_dir=data_dir, **switches)
    except DataError as error:
        print(f"{name}: skipped ({error})", flush=True)
        return None


def run(cells: list[Cell], budget: Budget, data_dir: str | None, results: Path, runs: Path, device: str) -> None:
    """Make what is missing, one file each."""
    results.mkdir(parents=True, exist_ok=True)
    missing = [cell for cell in cells if not kept(results / f"{cell.name}.json", budget)]
    sets: dict[str, Data | None] = {}
    for cell in missing:
        if cell.data not in sets:
            sets = {cell.data: opened(cell.data, data_dir)}
        if (data := sets[cell.data]) is None:
            continue
        started = time.process_time()
        try:
            found = measure(cell, data, budget, runs, device)
        except RunError as error:
            print(f"{cell.name}: failed ({error})", flush=True)
            continue
        (results / f"{cell.name}.json").write_text(json.dumps(found) + "\n")
        value = found["evaluation"]["log_likelihood"]["value"]
        print(f"{cell.name:>28} {value:10.2f} {time.process_time() - started:7.0f} CPU s", flush=True)


def main() -> None:
    """Make the cells asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of the data sets' files; downloaded where it is not given")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--data", nargs="+", default=list(PUBLISHED), choices=list(DATASETS))
    parser.add_argument("--methods", nargs="+", default=list(ORDER), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of each cell; without it and without minutes nothing is trained")
    parser.add_argument("--minutes", type=float, help="CPU minutes of each cell's training")
    parser.add_argument("--samples", type=int, default=100, help="draws a datum and proposal")
    parser.add_argument("--limit", type=int, help="test data; all if not given")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=RUNS)
    chosen = parser.parse_args()
    if chosen.epochs or chosen.minutes:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        budget = Budget(chosen.epochs, chosen.minutes, chosen.samples, chosen.limit)
        cells = list(plan(chosen.networks, chosen.data, chosen.methods, chosen.seeds))
        run(cells, budget, chosen.data_dir, chosen.results, chosen.runs, chosen.device)
        print(f"{time.process_time():.0f} CPU seconds")
    if chosen.results == RESULTS:
        publish(RESULTS)


if __name__ == "__main__":
    main()
