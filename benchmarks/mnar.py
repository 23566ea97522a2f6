"""Values that are missing because they are large: what a model that takes them for missing at random gets wrong.

    python benchmarks/mnar.py FOLDER              # 24 cells, about 25 CPU minutes; goes on if cut off
    python benchmarks/mnar.py FOLDER --only PPCA
    python benchmarks/mnar.py FOLDER --list       # only writes the page again

FOLDER holds the data as docs/fits.md says. A cell is a table, a method and a seed; each is a line of
``results/mnar.jsonl``.
"""

import argparse
import gzip
import itertools
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import curvae
from curvae.data import mnar_mask
from fits.cells import Cells, halves
from pages import written

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mnar.jsonl"
PAGE = HERE.parent / "docs" / "how-to" / "missing-values.md"
SEEDS = (0, 1, 2)
Array = NDArray[np.float64]


class Task(NamedTuple):
    """Rows in units of the standard deviations of their columns, a mask of them, and how large a model is fitted."""

    x: Array
    mask: NDArray[np.bool_]
    sizes: dict[str, int]


def ppca(folder: Path, seed: int) -> Task:
    """1,000 rows of one latent and 5 columns; of two columns half the values go by a logistic law of slope 3."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1000, 1)) + 0.5 * rng.normal(size=(1000, 5))
    sizes = {"latent": 1, "hidden": 16, "depth": 1, "max_updates": 1500}
    return Task(x / np.sqrt(1.25), mnar_mask(x, 0.5, seed, columns=(0, 1), slope=3.0), sizes)


def white(folder: Path, seed: int) -> Task:
    """White wine as in the demonstration of not-MIWAE: of the first 5 columns all values above their mean go."""
    with gzip.open(folder / "uci" / "winequality-white.csv.gz", "rt") as file:
        x = np.loadtxt(file, delimiter=",")[:, :11]
    x = (x - x.mean(0)) / x.std(0)
    mask = (x <= 0) | (np.arange(11) >= 5)
    return Task(x, mask, {"latent": 10, "hidden": 128, "depth": 2, "max_updates": 3000})


TASKS = {"PPCA": ppca, "white wine": white}
METHODS: dict[str, dict[str, Any]] = {
    "mean of the column": {},
    "missing-iwae": {"system": "missing-iwae"},
    "not-miwae, self": {"system": "not-miwae", "missingness": "self"},
    "not-miwae, self-larger": {"system": "not-miwae", "missingness": "self-larger"},
}


def filled(task: Task, seed: int, system: str, **options: Any) -> Array:
    """By a system that is fitted to the rows with their holes."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"missing": "mask", "progress": False, "device": "cpu", "split": (0.8, 0.1, 0.1), **task.sizes}
        holes = np.where(task.mask, task.x, np.nan)
        run = curvae.fit(system, holes, seed=seed, out=Path(folder) / "run", **settings, **options)
        return run.impute(holes, seed=seed)


def cell(task: Task, method: str, seed: int) -> dict[str, float]:
    """Root mean square error of what is filled in, mean error of the columns' means, both in deviations; seconds."""
    begun = time.process_time()
    if method == "mean of the column":
        means = np.nanmean(np.where(task.mask, task.x, np.nan), 0)
        found = np.where(task.mask, task.x, means)
    else:
        found = filled(task, seed, **METHODS[method])
    gone, holed = ~task.mask, ~task.mask.all(0)
    return {
        "rmse": float(np.sqrt(np.square(found - task.x)[gone].mean())),
        "bias": float((found - task.x).mean(0)[holed].mean()),
        "seconds": time.process_time() - begun,
    }


def page(cells: Cells) -> None:
    """The table of the page: means over seeds, and half their range."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for row in cells.rows:
        found[row["table"], row["method"]].append(row)
    lines = ["| table | method | seeds | error of a cell | error of a mean | CPU s |", "|---|---|--:|--:|--:|--:|"]
    for (table, method), some in sorted(found.items(), key=lambda pair: (pair[0][0], [*METHODS].index(pair[0][1]))):
        told = [halves([each[name] for each in some], 2) for name in ("rmse", "bias")]
        seconds = np.mean([each["seconds"] for each in some])
        lines.append(f"| {table} | {method} | {len(some)} | {told[0]} | {told[1]} | {seconds:.0f} |")
    written(PAGE, "mnar", "\n".join(lines) + "\n")


def main() -> None:
    """All cells that have not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    cells = Cells(RESULTS, "table", "method", "seed")
    for seed, table, method in () if options.list else itertools.product(options.seeds, options.only, METHODS):
        if (table, method, seed) not in cells:
            found = cell(TASKS[table](options.folder, seed), method, seed)
            cells.add({"table": table, "method": method, "seed": seed, **found})
    page(cells)


if __name__ == "__main__":
    main()
