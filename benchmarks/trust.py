"""Which check sees which fault: power and false alarms on models whose posterior is known.

Cells are one repetition of one fault, a line of ``benchmarks/results/trust.jsonl`` each; what is there is not measured
again, so that it may be stopped at any time. The table goes into docs/which-check.md. 200 repetitions of all take about
10 CPU minutes.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvae.evaluation import calibrate, local_c2st, predictive_check
from curvae.systems import LatentSystem
from pages import between

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from planted import FAULTS, system  # noqa: E402

RESULTS, PAGE = HERE / "results" / "trust.jsonl", HERE.parent / "docs" / "which-check.md"
LEVEL, ROWS = 0.05, 100
NEAR = torch.tensor([[2.0, 1.0, 0.0, 0.5], [0.7, -0.4, 0.3, 0.0], [-0.7, 0.4, -0.3, 0.0], [-2.0, -1.0, 0.0, -0.5]])
"""Rows at which the posterior is tested; a local fault is at the first two."""
RANKS = {"each latent": slice(0, 2), "distance": slice(2, 3), "log p(x, z)": slice(3, 4), "all ranks": slice(0, 4)}
BLIND = {("rotated", "each latent"), ("the prior", "each latent")}
"""By theory: the check is exact although q is wrong. So is the check of rows for all faults of q."""


def spiked(x: Tensor, size: float = 6.0) -> Tensor:
    """One row in twenty, in one element."""
    x[: len(x) // 20, 2] += size
    return x


DATA: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "shifted by 0.5": lambda x: x + 0.5,
    "spread times 1.3": lambda x: 1.3 * x,
    "spread times 0.7": lambda x: 0.7 * x,
    "a spike of 6 in one row of twenty": spiked,
    "columns without correlation": lambda x: torch.stack([c[torch.randperm(len(c))] for c in x.mT], 1),
    "copies of ten rows": lambda x: x[:10].repeat(len(x) // 10, 1),
}
"""What is wrong with the rows, of the model with one mode."""


def of_fault(name: str, seed: int) -> dict[str, Any]:
    """What every check says of a posterior."""
    subject, found = system(name), {}
    with clock(found, "ranks"):
        found["ranks p"] = calibrate(subject, seed=seed, levels=(), batch_size=1000).p_values
    with clock(found, "local"):
        local = local_c2st(subject, NEAR.double(), permutations=199, seed=seed, batch_size=2000)
    with clock(found, "rows"):
        rows = predictive_check(subject, drawn(subject, seed), seed=seed, batch_size=2000)
    return found | {"local p": local.p_values, "local all": local.p_value, "rows p": rows.p_value}


def of_data(name: str, seed: int) -> dict[str, Any]:
    """What the check of rows says of a set of them, and of the first, which have every fault."""
    subject = system("none, one mode")
    found = predictive_check(subject, DATA[name](drawn(subject, seed)), seed=seed, batch_size=2000)
    first = float(np.mean(np.array(found.p_values[: ROWS // 20]) <= LEVEL))
    return {"rows p": found.p_value, "first": first}


def drawn(subject: LatentSystem, seed: int) -> Tensor:
    """Rows of the model; the seed of the checks is another."""
    torch.manual_seed(seed + 10**6)
    with torch.no_grad():
        return subject.model.sample(ROWS)[0]


class clock:
    """CPU seconds of what is done meanwhile, under ``name s``."""

    def __init__(self, found: dict[str, Any], name: str):
        self.found, self.name = found, name

    def __enter__(self) -> None:
        self.begin = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.found[f"{self.name} s"] = round(time.process_time() - self.begin, 3)


def measure(repetitions: int, target: Path) -> None:
    """All cells that are not there, one repetition of all after another."""
    lines = target.read_text().splitlines() if target.exists() else []
    done = {(cell["kind"], cell["name"], cell["seed"]) for cell in map(json.loads, lines)}
    kinds = {"fault": (of_fault, FAULTS), "data": (of_data, DATA)}
    for seed in range(repetitions):
        for kind, (run, names) in kinds.items():
            for name in names:
                if (kind, name, seed) not in done:
                    cell = {"kind": kind, "name": name, "seed": seed, **run(name, seed)}
                    with target.open("a") as out:
                        out.write(json.dumps({key: rounded(value) for key, value in cell.items()}) + "\n")


def rounded(value: Any) -> Any:
    """Numbers to three figures."""
    if isinstance(value, tuple | list):
        return [rounded(part) for part in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def percent(p: Iterable[float], blind: bool = False) -> str:
    """The share of p-values at or below the level."""
    share = f"{100 * np.mean(np.asarray(list(p)) <= LEVEL):.0f}"
    return f"({share})" if blind else share


def faults(cells: Mapping[str, list[dict[str, Any]]]) -> str:
    """A row for each fault, a column for each check."""
    lines = [["fault of q", *RANKS, "L-C2ST, a row", "L-C2ST, rows together", "rows like the model"]]
    lines += [["---"] * len(lines[0])]
    for name, found in cells.items():
        ranks = np.array([cell["ranks p"] for cell in found])
        least = {key: ranks[:, part].shape[1] * ranks[:, part].min(1) for key, part in RANKS.items()}
        local, hit = np.array([cell["local p"] for cell in found]), 2 if FAULTS[name][1].local else 4
        shown = [percent(p, (name, key) in BLIND) for key, p in least.items()]
        shown += [percent(local[:, :hit].ravel()), percent(cell["local all"] for cell in found)]
        lines += [[name, *shown, percent((cell["rows p"] for cell in found), not name.startswith("none"))]]
        if hit == 2:
            lines += [["… at rows where q is right", *[""] * 4, percent(local[:, 3:].ravel()), "", ""]]
    return table(lines)


def data(cells: Mapping[str, list[dict[str, Any]]]) -> str:
    """A row for each fault of the data."""
    lines = [["fault of the rows", "rows together", "each row that has it"], ["---"] * 3]
    for name, found in cells.items():
        lines += [
            [name, percent(cell["rows p"] for cell in found), f"{100 * np.mean([c['first'] for c in found]):.0f}"]
        ]
    return table(lines)


def table(lines: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(target: Path) -> str:
    """Both tables, and what they cost."""
    cells: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for cell in map(json.loads, target.read_text().splitlines()):
        cells[cell["kind"]][cell["name"]].append(cell)
    count = min(len(found) for kind in cells.values() for found in kind.values())
    every = [cell for found in cells["fault"].values() for cell in found]
    cost = {name: np.mean([cell[f"{name} s"] for cell in every]) for name in ("ranks", "local", "rows")}
    told = f"{count} repetitions; CPU seconds of each: ranks {cost['ranks']:.2f}, L-C2ST {cost['local']:.2f}, "
    told += f"rows {cost['rows']:.2f}.\n"
    return f"{faults(cells['fault'])}\n{told}\n{data(cells['data'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured")
    parser.add_argument("--target", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if not chosen.table:
        measure(chosen.repetitions, chosen.target)
    begin, end = (f"<!-- benchmarks/trust.py: {word} -->\n" for word in ("begin", "end"))
    PAGE.write_text(between(PAGE.read_text(), begin, end, page(chosen.target)))


if __name__ == "__main__":
    main()
