"""VLAE beside its rivals, at equal CPU time and at equal updates: log p(x), ELBO and k-hat on three data sets.

    python benchmarks/rivals.py FOLDER                 # 162 cells, goes on if cut off; it says how long it will take
    python benchmarks/rivals.py FOLDER --only mnist --modes time --seeds 0
    python benchmarks/rivals.py FOLDER --list          # only writes the page again

FOLDER holds the data as docs/fits.md says. First an update of each system is timed in turns with one of the VAE; these
ratios are lines of ``results/rivals-costs.jsonl``. Lengths are counted in updates: at equal time a system has as many
as take the time of a number of the VAE's. A cell is a data set, a system, a mode and a seed, and a line of
``results/rivals.jsonl``. One evaluator judges all: 200 draws of the common proposal for each of 500 test rows.
"""

import argparse
import functools
import itertools
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import curvae
import curvae.registry
from curvae.data import Data
from curvae.evaluation.likelihood.importance import estimates, posterior_weights
from curvae.evaluation.likelihood.proposal import common_proposal
from curvae.objectives import elbo
from curvae.systems import LatentSystem, Stage
from curvae.typing import Batch

sys.path.insert(0, str(Path(__file__).parent / "fits"))
import cells
import images

import tables
from pages import written

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "studies" / "rivals.md"
ROWS, DRAWS, ELBO_DRAWS = 500, 200, 20
"""Of the test part, of a proposal, of the ELBO."""
TURNS, ONCE = 15, 6.0
"""Updates that are timed of each; CPU seconds of a cell that do not depend on its length, for the forecast."""

SCREEN = textwrap.TextWrapper(158, subsequent_indent="  ", break_on_hyphens=False)
Row = dict[str, Any]


class Lengths(NamedTuple):
    """Of a data set: its latents, and the updates of a VAE by which the others are measured."""

    latent: int
    time: int
    """All others have updates that take the time of so many."""
    updates: int
    """All have so many."""
    rate: float
    """Of the four steps of the semi-amortized VAE, see docs/studies/rivals.md."""


DATA = {
    "mnist": Lengths(16, 1500, 700, 5e-3),
    "fashion": Lengths(16, 1500, 700, 5e-3),
    "white": Lengths(5, 3000, 1500, 5e-4),
}
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "vlae": ("vlae", {}),
    "vlae, 2 rounds": ("vlae", {"rounds": 2}),
    "fif-vae": ("fif-vae", {}),
    "ia-vae": ("ia-vae", {}),
    "iaf-vae": ("iaf-vae", {}),
    "sa-vae": ("sa-vae", {"steps": 4}),
    "recursive-mixture": ("recursive-mixture", {}),
    "iwae": ("iwae", {}),
}
"""The first is what all others are compared with, and must be there first."""
BASE = next(iter(SYSTEMS))
MODES = {"time": "Equal CPU time", "updates": "Equal updates"}
NAMES = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "white": "white wines"}
Place = tuple[str, str, str, int]
"""Data, system, mode, seed."""


def opened(name: str, folder: Path, seed: int) -> Data:
    """Images in the split of the data set, a table split by the seed."""
    return _opened(name, folder, 0 if name in images.SETS else seed)


@functools.cache
def _opened(name: str, folder: Path, seed: int) -> Data:
    return images.opened(name, folder) if name in images.SETS else tables.opened(name, folder, seed)


def made(name: str, word: str, data: Data, seed: int) -> LatentSystem:
    torch.manual_seed(seed)
    system, options = SYSTEMS[word]
    options = options | ({"rate": DATA[name].rate} if system == "sa-vae" else {})
    return curvae.registry.system(system)(data.spec, latent=DATA[name].latent, hidden=256, **options)


def clock(system: LatentSystem, stage: Stage, batches: Iterator[Batch]) -> Callable[[], float]:
    """What makes an update and gives its CPU seconds."""
    optimizer = torch.optim.Adam(system.parameters(), lr=1e-4)

    def update() -> float:
        batch, begin = next(batches), time.process_time()
        optimizer.zero_grad()
        (-stage.bound_of(system, batch).surrogate.mean()).backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 50.0)
        optimizer.step()
        return time.process_time() - begin

    return update


def costs(name: str, word: str, data: Data) -> Row:
    """Of an update of each stage, in updates of the VAE made in turns with it; medians."""
    base, system = made(name, BASE, data, 0), made(name, word, data, 0)
    size = 256 if len(data.train) > 10_000 else 128
    batches = (data.train.batch(torch.randint(len(data.train), (size,))) for _ in itertools.count())
    for each in (base, system):
        each.stages()[0].start(each, data)
    found, one = [], clock(base, base.stages()[0], batches)
    for stage in system.stages():
        other = clock(system, stage, batches)
        both = np.array([(one(), other()) for _ in range(TURNS)])
        found.append(np.median(both, axis=0))
    ratios = [1.0] if word == BASE else [round(float(other / one), 3) for one, other in found]
    return {"data": name, "system": word, "ratios": ratios, "ms": 1000 * float(np.mean([one for one, _ in found]))}


@torch.no_grad()
def scored(system: LatentSystem, data: Data) -> dict[str, np.ndarray]:
    """log p(x) and the ELBO of each row, and the k-hat of the common proposal and of the system's own posterior."""
    system.eval()
    torch.manual_seed(0)
    parts = [_scored(system, data.test.batch(rows)) for rows in torch.arange(min(ROWS, len(data.test))).split(100)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _scored(system: LatentSystem, batch: Batch) -> dict[str, np.ndarray]:
    model, inference = system.parts()[:2]
    own, common = (method(model, batch).posterior for method in (inference, common_proposal(system)))
    by_own, by_common = (estimates(posterior_weights(model, q, batch, DRAWS, 2**25)) for q in (own, common))
    bound = elbo(model, own, batch, ELBO_DRAWS).value
    return {
        "log_likelihood": by_common.log_likelihood, "elbo": bound.numpy(), "khat": by_common.khat, "own": by_own.khat
    }  # fmt: skip


def cell(place: Place, folder: Path, ratios: list[float], scale: float, base: Row | None) -> Row:
    """Trained and judged; the difference to the base is that of the same data, mode and seed, row by row."""
    name, word, mode, seed = place
    data = opened(name, folder, seed)
    system = made(name, word, data, seed)
    updates = length(place, system, ratios, scale)
    took = images.trained(system, data, seed, {"max_updates": updates, "patience": 0})
    found = scored(system, data)
    row: Row = {"data": name, "system": word, "mode": mode, "seed": seed, "updates": updates, "cpu_seconds": took}
    row |= {key: float(found[key].mean()) for key in ("log_likelihood", "elbo")}
    row |= {key: float(np.mean(~(found[key] <= 0.7))) for key in ("khat", "own")}
    if base is None:
        return row | {"each": [round(float(value), 2) for value in found["log_likelihood"]]}
    ahead = found["log_likelihood"] - np.array(base["each"])
    return row | {"ahead": float(ahead.mean()), "error": float(ahead.std(ddof=1) / len(ahead) ** 0.5)}


def length(place: Place, system: LatentSystem, ratios: list[float], scale: float) -> int:
    """Updates of a cell."""
    name, _, mode, _ = place
    if mode == "updates":
        return round(scale * DATA[name].updates)
    return images.planned(system, scale * DATA[name].time, ratios)


def wanted(given: argparse.Namespace) -> list[Place]:
    """Those that say most first: a seed with all its systems, equal time before equal updates."""
    places = itertools.product(given.seeds, given.modes, given.only, SYSTEMS)
    return [(name, word, mode, seed) for seed, mode, name, word in places]


def minutes(places: list[Place], known: dict[tuple[str, str], Row], folder: Path, scale: float) -> float:
    """A forecast of CPU time."""
    total = 0.0
    for place in places:
        name, word, *_, seed = place
        system, cost = made(name, word, opened(name, folder, seed), 0), known[name, word]
        each = images.mean_cost(system, cost["ratios"]) * cost["ms"] / 1000
        total += ONCE + each * length(place, system, cost["ratios"], scale)
    return total / 60


def measure(given: argparse.Namespace) -> list[Row]:
    """All cells that are wanted and not there yet."""
    timed = cells.Cells(given.target / "rivals-costs.jsonl", "data", "system")
    found = cells.Cells(given.target / "rivals.jsonl", "data", "system", "mode", "seed")
    left = [] if given.list else [place for place in wanted(given) if place not in found]
    for name, word in dict.fromkeys(place[:2] for place in left):
        if (name, word) not in timed:
            timed.add(costs(name, word, opened(name, given.folder, 0)))
    known = {(row["data"], row["system"]): row for row in timed.rows}
    print(f"{len(left)} cells, about {minutes(left, known, given.folder, given.scale):.0f} CPU minutes", flush=True)
    for place in left:
        name, word, mode, seed = place
        bases = (row for row in found.rows if tuple(row[key] for key in found.keys) == (name, BASE, mode, seed))
        found.add(cell(place, given.folder, known[name, word]["ratios"], given.scale, next(bases, None)))
    return found.rows


def grouped(rows: list[Row]) -> dict[tuple[str, str], dict[str, list[Row]]]:
    """Mode and data, in order -> system -> its rows, the highest mean log p(x) first."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for mode, name in itertools.product(MODES, DATA):
        group: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if (row["mode"], row["data"]) == (mode, name):
                group[row["system"]].append(row)
        if group:
            found[mode, name] = dict(sorted(group.items(), key=lambda one: -mean(one[1], "log_likelihood")))
    return found


def mean(rows: list[Row], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def lead(rows: list[Row]) -> tuple[float, float]:
    """Over the VAE, with its error."""
    return cells.over_seeds([row["ahead"] for row in rows], [row["error"] for row in rows])


def listed(rows: list[Row]) -> str:
    """A table for each mode, and what it says in words."""
    groups, parts = grouped(rows), []
    for mode, title in MODES.items():
        here = {name: group for (which, name), group in groups.items() if which == mode}
        if here:
            said = [SCREEN.fill(f"- {NAMES[name]}: {sentence(group)}") for name, group in here.items()]
            parts += [f"### {title}", "\n".join(table(here)), "\n".join(said)]
    return "\n\n".join(["", *parts, ""])


def table(here: dict[str, dict[str, list[Row]]]) -> list[str]:
    lines = [
        "| data | system | seeds | updates | CPU s | log p(x) | over `vae` | ELBO | log p(x) - ELBO | own k-hat > 0.7 "
        "| common k-hat > 0.7 |",
        "|" + "---|" * 11,
    ]
    for name, group in here.items():
        for word, rows in group.items():
            keys = ("updates", "cpu_seconds", "log_likelihood", "elbo", "own", "khat")
            updates, seconds, value, bound, own, khat = (mean(rows, key) for key in keys)
            gain = "" if word == BASE else "{:+.2f} ± {:.2f}".format(*lead(rows))
            ends = f"{bound:.2f} | {value - bound:.2f} | {own:.0%} | {khat:.0%}"
            head = f"{name} | `{word}` | {len(rows)} | {updates:.0f} | {seconds:.0f}"
            lines.append(f"| {head} | {value:.2f} | {gain} | {ends} |")
    return lines


def sentence(group: dict[str, list[Row]]) -> str:
    """Who is ahead of the VAE by more than two errors, who behind, and whose bound is the tightest."""
    leads = {word: lead(rows) for word, rows in group.items() if word != BASE}
    named = {
        "ahead of the VAE by more than two errors": [word for word, (gain, error) in leads.items() if gain > 2 * error],
        "level": [word for word, (gain, error) in leads.items() if abs(gain) <= 2 * error],
        "behind": [word for word, (gain, error) in leads.items() if gain < -2 * error],
    }
    gaps = {word: mean(rows, "log_likelihood") - mean(rows, "elbo") for word, rows in group.items()}
    best = min(gaps, key=lambda word: gaps[word])
    words = "; ".join(f"{what}: {', '.join(f'`{word}`' for word in who) or 'none'}" for what, who in named.items())
    return f"{words}. The ELBO is nearest to log p(x) for `{best}`: {gaps[best]:.2f} nats below."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths, for a try: with a --target")
    parser.add_argument("--target", type=Path, default=HERE / "results", help="folder of the lines")
    parser.add_argument("--list", action="store_true", help="only write the page, from what is there")
    given = parser.parse_args()
    if given.scale != 1 and given.target == parser.get_default("target"):
        parser.error("--scale is for a try: give a --target too.")
    torch.set_num_threads(1)
    rows = measure(given)
    print(listed(rows), end="")
    if given.target == parser.get_default("target"):
        written(PAGE, "rivals", listed(rows))


if __name__ == "__main__":
    main()
