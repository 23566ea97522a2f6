"""``curvae fit SYSTEM TABLE`` with its defaults beside PPCA and factor analysis: test log p(x) on real tables.

    python benchmarks/fits/tables.py FOLDER                        # 108 cells; goes on if cut off
    python benchmarks/fits/tables.py FOLDER --only wine --trial half --training '{"learning_rate": 5e-4}'
    python benchmarks/fits/tables.py FOLDER --list                 # a line for each table, from what is there

FOLDER holds ``uci`` and ``sdss`` (docs/fits.md says which files). A cell is a table, a number of latents, a system and
a seed, which splits the rows and draws all else; each is a line of ``results/fits/tables.jsonl``, those of a trial in a
file of their own.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer

import curvae
from curvae.data import Data, from_array
from curvae.linear import factor_analysis, ppca
from curvae.training import fit

sys.path.insert(0, str(Path(__file__).parents[1]))
import cells

from pages import written

FILES = {
    "wine": "wine",
    "red": "winequality-red",
    "white": "winequality-white",
    "yeast": "yeast",
    "banknote": "banknote_authentication",
    "abalone": "abalone",
}
TABLES = ("wine", "wdbc", "red", "white", "yeast", "banknote", "abalone", "sdss", "digits")


def opened(name: str, folder: Path, seed: int) -> Data:
    """The numbers of a table without its class or quality (abalone: without its sex), split by the seed."""
    if name == "wdbc":
        return from_array(load_breast_cancer().data, seed=seed, name=name)
    if name == "digits":
        return curvae.data.load(name, seed=seed)
    if name == "sdss":
        frame = pd.read_csv(folder / "sdss" / "skyserver_dr14_10000.csv.gz")
        return from_array(frame[list("ugriz")].to_numpy(), seed=seed, name=name)
    frame = pd.read_csv(folder / "uci" / f"{FILES[name]}.csv.gz", header=None)
    left_out = 0 if name == "abalone" else len(frame.columns) - 1
    return from_array(frame.drop(columns=left_out).to_numpy(float), seed=seed, name=name)


def cell(
    name: str, latent: int, word: str, seed: int, folder: Path, options: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    """Mean test log p(x), and its differences to the linear models with their standard errors over the rows."""
    data = opened(name, folder, seed)
    torch.manual_seed(seed)
    system = curvae.registry.system(word)(data.spec, latent=latent, **options)
    with tempfile.TemporaryDirectory() as place:
        begin, clock = time.process_time(), time.monotonic()
        run = fit(system, data, seed=seed, out=f"{place}/run", progress=False, **training)
        seconds, clock = time.process_time() - begin, time.monotonic() - clock
        found = curvae.evaluate(run, samples=300, seed=seed, progress=False)
        epochs, arrays = run.metrics(), np.load(run.path / "evaluation.npz")
        ours = np.asarray(arrays["log_likelihood"], dtype=float)
    x, test, floor = data.train.x.flatten(1), data.test.x.flatten(1).double(), 2e-6
    row: dict[str, Any] = {"table": name, "latent": latent, "system": word, "seed": seed, "rows": len(data.train)}
    row |= {"log_likelihood": ours.mean(), "elbo": found.elbo.value, "cpu_seconds": seconds, "seconds": clock}
    row |= {"updates": epochs["step"][-1], "best": float(np.nanmax(epochs["validation_bound"]))}
    linear = {"ppca": ppca(x, latent, None, floor), "factor_analysis": factor_analysis(x, latent, floor)}
    for what, model in linear.items():
        gain = ours - model.log_prob(test).numpy()
        row[what], row[f"over_{what}"] = float(model.log_prob(test).mean()), float(gain.mean())
        row[f"error_{what}"] = float(gain.std(ddof=1) / len(gain) ** 0.5)
    return row


def wanted(tables: list[str], latents: list[int], systems: list[str], seeds: list[int]) -> Iterator[tuple[Any, ...]]:
    for seed in seeds:
        for name in tables:
            for latent in latents:
                for word in systems:
                    yield name, latent, word, seed


def listed(rows: list[dict[str, Any]]) -> str:
    """Means over the seeds; the error of a difference is that over the rows and that over the seeds together."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["table"], row["latent"], row["system"]].append(row)
    lines = [
        "| table | latents | system | seeds | log p(x) | over PPCA | over factor analysis | ELBO | CPU s |",
        "|" + "---|" * 9,
    ]
    for (name, latent, word), group in sorted(groups.items(), key=lambda one: (TABLES.index(one[0][0]), *one[0][1:])):
        means = {key: np.mean([row[key] for row in group]) for key in ("log_likelihood", "elbo", "cpu_seconds")}
        gains = " | ".join(_gain(group, what) for what in ("ppca", "factor_analysis"))
        numbers = f"{means['log_likelihood']:.2f} | {gains} | {means['elbo']:.2f} | {means['cpu_seconds']:.0f}"
        lines.append(f"| {name} | {latent} | {word} | {len(group)} | {numbers} |")
    return "\n".join(lines) + "\n"


def _gain(group: list[dict[str, Any]], what: str) -> str:
    gain, error = cells.over_seeds([row[f"over_{what}"] for row in group], [row[f"error_{what}"] for row in group])
    return f"{gain:+.2f} ± {error:.2f}"


def main() -> None:
    parser = cells.parser(__doc__)
    parser.add_argument("--only", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--latent", nargs="+", type=int, default=[2, 5])
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = cells.Cells(cells.place(given, "tables"), "table", "latent", "system", "seed")
    for place in [] if given.list else wanted(given.only, given.latent, given.systems, given.seeds):
        if place not in found:
            found.add(cell(*place, given.folder, given.options, given.training))
    print(listed(found.rows), end="")
    if not given.trial and given.target == cells.RESULTS:
        written(cells.PAGE, "fits/tables", listed(found.rows))


if __name__ == "__main__":
    main()
