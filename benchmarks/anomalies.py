"""Planted errors: how well log p(x) finds the rows, and log p(x_j | other columns) the cells, that were changed.

    python benchmarks/anomalies.py FOLDER                  # 75 cells, about 45 CPU minutes; goes on if cut off
    python benchmarks/anomalies.py FOLDER --only wine --seeds 0
    python benchmarks/anomalies.py FOLDER --list           # only writes the page again

FOLDER holds the data as docs/fits.md says. In one row of ten, one to three cells are given the values of another row:
every number is then a plausible one of its column. Each method is fitted to all rows, errors among them, and scores
them. A cell is a table, a method and a seed, and a line of ``results/anomalies.jsonl``.
"""

import argparse
import gzip
import itertools
import logging
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

import curvae
from fits.cells import Cells, halves
from pages import written

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "anomalies.jsonl"
PAGE = HERE.parent / "docs" / "studies" / "anomalies.md"
SEEDS = (0, 1, 2)
SHARE, MOST = 0.1, 3
"""Of the rows that are changed; cells of a row, at most."""
UPDATES = 3000
Array = NDArray[np.float64]


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Numeric columns of the five tables, without labels."""
    uci = folder / "uci"

    def read(path: Path, **options: Any) -> pd.DataFrame:
        with gzip.open(path) as file:
            return pd.read_csv(file, **options)

    sky = read(next((folder / "sdss").glob("*.csv.gz")))
    return {
        "wine": read(uci / "wine.csv.gz", header=None).iloc[:, :13],
        "wdbc": pd.DataFrame(load_breast_cancer().data),
        "white": read(uci / "winequality-white.csv.gz", header=None).iloc[:, :11],
        "abalone": read(uci / "abalone.csv.gz", header=None).iloc[:, 1:],
        "sdss": sky[["u", "g", "r", "i", "z", "redshift"]],
    }


def planted(x: Array, seed: int) -> tuple[Array, NDArray[np.bool_]]:
    """A copy with errors, and where they are."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(x), round(SHARE * len(x)), replace=False)
    wrong, y = np.zeros(x.shape, bool), x.copy()
    for row in rows:
        columns = generator.choice(x.shape[1], generator.integers(1, MOST + 1), replace=False)
        for column in columns:
            others = np.flatnonzero(x[:, column] != x[row, column])
            y[row, column], wrong[row, column] = x[generator.choice(others), column], True
    return y, wrong


def fitted(x: Array, seed: int, system: str, **options: Any) -> tuple[Array, Array]:
    """Scores of rows and of cells by a system; the higher, the stranger."""
    frame = pd.DataFrame(x, columns=[f"c{j}" for j in range(x.shape[1])])
    latent = max(2, min(5, x.shape[1] // 2))
    with tempfile.TemporaryDirectory() as folder:
        lengths = {"max_updates": UPDATES, "progress": False, "device": "cpu", "split": (0.8, 0.1, 0.1)}
        run = curvae.fit(
            system, frame, latent=latent, hidden=128, seed=seed, out=Path(folder) / "run", **lengths, **options
        )
        rows = run.score(frame, samples=200)["log_likelihood"].to_numpy()
        reader = curvae.fitted.rows.rows_of(run.run, frame)
        cells = run.columns_scored(reader, draws=100)["log_prob"]
    return -rows, -cells


def isolation(x: Array, seed: int) -> tuple[Array, Array]:
    """An isolation forest, and distance from the mean by column."""
    forest = IsolationForest(random_state=seed).fit(x)
    return -forest.score_samples(x), np.abs(x - x.mean(0)) / x.std(0)


METHODS: dict[str, Any] = {
    "vae": lambda x, seed: fitted(x, seed, "vae"),
    "vlae": lambda x, seed: fitted(x, seed, "vlae"),
    "vae, Student t": lambda x, seed: fitted(x, seed, "vae", likelihood="student-t"),
    "vlae, Student t": lambda x, seed: fitted(x, seed, "vlae", likelihood="student-t"),
    "isolation forest": isolation,
}


def cell(x: Array, method: str, seed: int) -> dict[str, float]:
    """AUROC of rows, and of cells, and the seconds they took."""
    y, wrong = planted(x, seed)
    begun = time.process_time()
    rows, cells = METHODS[method](y, seed)
    spent = time.process_time() - begun
    scores = {"rows": roc_auc_score(wrong.any(1), rows), "cells": roc_auc_score(wrong.ravel(), cells.ravel())}
    return {**scores, "seconds": spent}


def page(cells: Cells) -> None:
    """The table of the page: means over seeds, and half their range."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for row in cells.rows:
        found[row["table"], row["method"]].append(row)
    lines = ["| table | method | seeds | rows | cells | CPU s |", "|---|---|--:|--:|--:|--:|"]
    for (table, method), some in found.items():
        areas = [halves([each[name] for each in some], 3) for name in ("rows", "cells")]
        seconds = np.mean([each["seconds"] for each in some])
        lines.append(f"| {table} | {method} | {len(some)} | {areas[0]} | {areas[1]} | {seconds:.0f} |")
    written(PAGE, "anomalies", "\n".join(lines) + "\n")


def todo(options: argparse.Namespace, cells: Cells) -> Iterator[tuple[str, str, int]]:
    """Cells that were asked for and are not there, seed by seed."""
    wanted = itertools.product(options.seeds, ("wine", "wdbc", "white", "abalone", "sdss"), METHODS)
    for seed, table, method in wanted:
        if (not options.only or table in options.only) and (table, method, seed) not in cells:
            yield table, method, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="tables")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--list", action="store_true", help="only write the page")
    options = parser.parse_args()
    logging.getLogger("curvae").setLevel(logging.ERROR)
    data = {} if options.list else {name: each.to_numpy(float) for name, each in tables(options.folder).items()}
    cells = Cells(RESULTS, "table", "method", "seed")
    for table, method, seed in [] if options.list else todo(options, cells):
        cells.add({"table": table, "method": method, "seed": seed, **cell(data[table], method, seed)})
    page(cells)


if __name__ == "__main__":
    main()
