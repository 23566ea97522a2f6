"""Holes in seven tables, filled in: by systems of curvae, and by what scikit-learn has for it.

    python benchmarks/missing.py FOLDER                                   # 50 % at random, seed 0; goes on if cut off
    python benchmarks/missing.py FOLDER --holes mcar20 mcar80 mar mnar --seeds 0 1 2
    python benchmarks/missing.py FOLDER --list                            # only writes the page again

FOLDER holds the data as docs/fits.md says. Of each table at most 1,000 rows are taken, by the seed, the same for every
method: a random forest is fitted to each column in each of five rounds. A method is fitted to rows with holes and fills
in these holes. A cell is a table, a kind of holes, a method and a seed, and a line of ``results/missing.jsonl``.
"""

import argparse
import itertools
import logging
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

import curvae
from curvae.data import mar_mask, mcar_mask, mnar_mask
from fits.cells import Cells, halves
from pages import written

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "missing.jsonl"
PAGE = HERE.parent / "docs" / "studies" / "missing.md"
ROWS, DRAWS, UPDATES = 1000, 20, 600
LATENT, LEVEL = 4, 0.9
Array = NDArray[Any]
Frame = Any
TABLES = ("wine", "wdbc", "yeast", "banknote", "red", "white", "abalone")
FILES = {
    "wine": "wine",
    "yeast": "yeast",
    "banknote": "banknote_authentication",
    "red": "winequality-red",
    "white": "winequality-white",
}


def table(name: str, folder: Path, seed: int) -> Frame:
    """Columns of a table without its class or quality, at most so many rows; numbers in standard deviations."""
    frame: Frame
    if name == "wdbc":
        bunch: Any = load_breast_cancer()
        frame = pd.DataFrame(bunch.data)
    elif name == "abalone":
        frame = pd.read_csv(folder / "uci" / "abalone.csv.gz", header=None)
    else:
        frame = pd.read_csv(folder / "uci" / f"{FILES[name]}.csv.gz", header=None).iloc[:, :-1]
    frame.columns = [f"c{j}" for j in range(frame.shape[1])]
    frame = frame.sample(min(ROWS, len(frame)), random_state=seed).reset_index(drop=True)
    numbers = frame.select_dtypes("number").columns
    varied = numbers[frame[numbers].std() > 0]
    return frame.drop(columns=numbers.difference(varied)).assign(
        **{name: (frame[name] - frame[name].mean()) / frame[name].std() for name in varied}
    )


def has_words(frame: Frame) -> bool:
    """Whether a column is no number."""
    return frame.select_dtypes("number").shape[1] < frame.shape[1]


def codes(frame: Frame) -> Array:
    """Words as their numbers, as masks by values need them."""
    words = frame.columns.difference(frame.select_dtypes("number").columns)
    return frame.assign(**{name: frame[name].astype("category").cat.codes for name in words}).to_numpy(float)


HOLES: dict[str, Callable[[Array, int], Array]] = {
    "mcar50": lambda x, seed: mcar_mask(x, 0.5, seed),
    "mcar20": lambda x, seed: mcar_mask(x, 0.2, seed),
    "mcar80": lambda x, seed: mcar_mask(x, 0.8, seed),
    "mar": lambda x, seed: mar_mask(x, 0.5, seed),
    "mnar": lambda x, seed: mnar_mask(x, 0.5, seed, columns=range(x.shape[1] // 2)),
}
TITLES = {
    "mcar50": "50 % at random (MCAR)",
    "mcar20": "20 % at random (MCAR)",
    "mcar80": "80 % at random (MCAR)",
    "mar": "by other columns (MAR), 50 % of one half of the columns",
    "mnar": "by their own size (MNAR), 50 % of one half of the columns, larger values more often",
}


class Filled(NamedTuple):
    """A best guess of each cell, and where a method has them draws and intervals."""

    guess: Frame
    draws: list[Frame] | None = None
    lower: Array | None = None
    upper: Array | None = None


def by_system(holes: Frame, seed: int, system: str, **options: Any) -> Filled:
    """A system of curvae, its sizes those of the table."""
    latent = max(min(LATENT, holes.shape[1] // 2), holes.shape[1] // 3)
    settings = {"missing": "mask", "progress": False, "device": "cpu", "split": (0.8, 0.1, 0.1)}
    with tempfile.TemporaryDirectory() as folder:
        run = curvae.fit(
            *(system, holes),
            **{"latent": latent, "hidden": 64, "max_updates": UPDATES, "seed": seed, **settings, **options},
            out=Path(folder) / "run",
        )
        found = run.imputed(holes, draws=DRAWS, level=LEVEL, seed=seed)
    return Filled(found.filled, found.draws, found.lower, found.upper)


def by_column(holes: Frame, seed: int) -> Filled:
    """Means of columns and the most frequent words; draws are values of other rows."""
    rng = np.random.default_rng(seed)

    def drawn(column: Any) -> Any:
        values = column.dropna().to_numpy()
        return column.where(column.notna(), pd.Series(rng.choice(values, len(column)), index=column.index))

    numbers = holes.select_dtypes("number")
    words = {name: holes[name].mode()[0] for name in holes.columns.difference(numbers.columns)}
    guess = holes.fillna({**numbers.mean(), **words})
    tails = [numbers.quantile(tail).reindex(holes.columns).to_numpy() for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    lower, upper = (np.broadcast_to(tail, holes.shape) for tail in tails)
    return Filled(guess, [holes.apply(drawn) for _ in range(DRAWS)], lower, upper)


def by_numbers(holes: Frame, imputer: Any, draws: int = 0) -> Filled:
    """An imputer of numbers, which sees words as one column each of 0 and 1."""
    words = list(holes.columns.difference(holes.select_dtypes("number").columns))
    wide = pd.get_dummies(holes, columns=words, dtype=float)
    for word in words:
        wide.loc[holes[word].isna(), [name for name in wide if name.startswith(f"{word}_")]] = np.nan
    filled = [imputer.fit_transform(wide), *(imputer.transform(wide) for _ in range(draws))]

    def narrow(values: Array) -> Frame:
        frame: Frame = pd.DataFrame(values, columns=wide.columns)
        for word in words:
            some = frame[[name for name in wide if name.startswith(f"{word}_")]]
            frame[word] = some.idxmax(axis=1).str.removeprefix(f"{word}_")
        return frame[holes.columns]

    if not draws:
        return Filled(narrow(filled[0]))
    told = [narrow(each) for each in filled[1:]]
    numbers = holes.select_dtypes("number").columns
    values = np.stack([each[numbers].to_numpy() for each in told])
    mean = told[0].assign(**dict(zip(numbers, values.mean(0).T, strict=True)))
    return Filled(mean, told[:DRAWS], *_tails(told, holes))


def _tails(draws: list[Frame], holes: Frame) -> tuple[Array, Array]:
    """Ends of intervals, of draws: their mean and so many standard deviations, NaN of words."""
    numbers = holes.select_dtypes("number").columns
    values = np.stack([each[numbers].to_numpy() for each in draws])
    half = 1.6449 * values.std(0, ddof=1)
    ends = (pd.DataFrame(values.mean(0) + sign * half, columns=numbers) for sign in (-1, 1))
    lower, upper = (end.reindex(columns=holes.columns).to_numpy(float) for end in ends)
    return lower, upper


def forest(seed: int) -> IterativeImputer:
    """Random forests of 50 trees in the place of linear regressions, five rounds."""
    trees = RandomForestRegressor(50, min_samples_leaf=3, max_features=0.5, random_state=seed)
    return IterativeImputer(trees, max_iter=5, random_state=seed)


METHODS: dict[str, Callable[[Frame, int], Filled]] = {
    "column": by_column,
    "kNN": lambda holes, seed: by_numbers(holes, KNNImputer(n_neighbors=10, weights="distance")),
    "iterative": lambda holes, seed: by_numbers(
        holes, IterativeImputer(sample_posterior=True, max_iter=10, random_state=seed), DRAWS
    ),
    "forest": lambda holes, seed: by_numbers(holes, forest(seed)),
    "vlae": lambda holes, seed: by_system(holes, seed, "vlae"),
    "missing-iwae": lambda holes, seed: by_system(holes, seed, "missing-iwae", samples=10),
    "gibbs-vae": lambda holes, seed: by_system(holes, seed, "gibbs-vae", block=has_words(holes)),
    "not-miwae, self-larger": lambda holes, seed: by_system(
        holes, seed, "not-miwae", samples=10, missingness="self-larger"
    ),
}
NAMES = {"column": "mean of the column", "iterative": "IterativeImputer", "forest": "IterativeImputer, random forest"}


def crps(draws: Array, truth: Array) -> Array:
    """``E |X - x| - E |X - X'| / 2`` of each cell, by draws; of a single one its absolute error.

    >>> crps(np.array([[0.0], [2.0]]), np.array([1.0])).tolist(), crps(np.array([[3.0]]), np.array([1.0])).tolist()
    ([0.0], [2.0])
    """
    count = len(draws)
    rank = 2 * np.arange(1, count + 1) - count - 1
    apart = (rank[:, None] * np.sort(draws, 0)).sum(0) / max(count * (count - 1), 1)
    return np.abs(draws - truth).mean(0) - apart


def cell(frame: Frame, mask: Array, method: str, seed: int) -> dict[str, float | None]:
    """What a method fills in beside what was there, over cells; errors of a mean are over rows."""
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = METHODS[method](frame.where(mask), seed)
    spent = time.process_time() - begun
    numbers = [frame.columns.get_loc(name) for name in frame.select_dtypes("number")]
    gone, truth = ~mask[:, numbers], frame.iloc[:, numbers].to_numpy(float)
    guess = found.guess.iloc[:, numbers].to_numpy(float)
    square = np.where(gone, np.square(guess - truth), 0)
    error = (square - gone * square.sum() / gone.sum()).sum(1)
    rmse = float(np.sqrt(square.sum() / gone.sum()))
    told: dict[str, float | None] = {
        "rmse": rmse,
        "rmse_error": float(np.sqrt(np.square(error).sum()) / gone.sum() / 2 / rmse),
    }
    drawn = [guess] if found.draws is None else [each.iloc[:, numbers].to_numpy(float) for each in found.draws]
    told["crps"] = float(crps(np.stack(drawn)[:, gone], truth[gone]).mean())
    told["coverage"] = None
    if found.lower is not None and found.upper is not None:
        inside = (found.lower[:, numbers] <= truth) & (truth <= found.upper[:, numbers])
        told["coverage"] = float(inside[gone].mean())
    words = np.setdiff1d(np.arange(frame.shape[1]), numbers)
    right = (found.guess.iloc[:, words].to_numpy() == frame.iloc[:, words].to_numpy())[~mask[:, words]]
    return {**told, "accuracy": float(right.mean()) if right.size else None, "seconds": spent}


def wanted(names: list[str], kinds: list[str], methods: list[str], seeds: list[int]) -> Iterator[tuple[Any, ...]]:
    """Cells in the order in which they are run; a law of what is missing only where values go by their size."""
    for seed, holes, name, method in itertools.product(seeds, kinds, names, methods):
        if not method.startswith("not-miwae") or (holes == "mnar" and name != "abalone"):
            yield name, holes, method, seed


def page(cells: Cells) -> None:
    """A table for each kind of holes: means over seeds, and half their range."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in cells.rows:
        found[row["holes"], row["table"], row["method"]].append(row)
    lines: list[str] = []
    for holes, title in TITLES.items():
        some = [(name, method) for name in TABLES for method in METHODS if (holes, name, method) in found]
        if some:
            lines += [
                f"## {title[0].upper()}{title[1:]}",
                "",
                "| table | method | seeds | RMSE | CRPS | inside 90 % | right words | CPU s |",
            ]
            lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
            lines += [listed(name, method, found[holes, name, method]) for name, method in some] + [""]
    written(PAGE, "missing", "\n".join(lines))


def listed(name: str, method: str, rows: list[dict[str, Any]]) -> str:
    """A line; of one seed, the error of RMSE over rows stands beside it."""
    rmse = halves([row["rmse"] for row in rows], 3)
    rmse = rmse if len(rows) > 1 else f"{rmse} ({rows[0]['rmse_error']:.3f})"
    shares = [
        "" if rows[0][key] is None else f"{100 * np.mean([row[key] for row in rows]):.0f} %"
        for key in ("coverage", "accuracy")
    ]
    crps, seconds = np.mean([row["crps"] for row in rows]), np.mean([row["seconds"] for row in rows])
    cells = [name, NAMES.get(method, method), str(len(rows)), rmse, f"{crps:.3f}", *shares, f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """All cells that have not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=list(TABLES), choices=TABLES)
    parser.add_argument("--holes", nargs="*", default=["mcar50"], choices=list(HOLES))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    logging.getLogger("curvae").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=curvae.data.DataAdvice)
    cells = Cells(RESULTS, "table", "holes", "method", "seed")
    for name, holes, method, seed in wanted(options.only, options.holes, options.methods, options.seeds):
        if not options.list and (name, holes, method, seed) not in cells:
            frame = table(name, options.folder, seed)
            told = cell(frame, HOLES[holes](codes(frame), seed), method, seed)
            cells.add({"table": name, "holes": holes, "method": method, "seed": seed, "rows": len(frame), **told})
    page(cells)


if __name__ == "__main__":
    main()
