"""Every statistical test with many other seeds: what it measures, and how seldom chance makes it fail.

    python benchmarks/seeds.py                       # 200 seeds; cut off and started again it goes on
    python benchmarks/seeds.py --jobs 2 --only chains
    python benchmarks/seeds.py --only none           # only write the tables, from what is there

Each cell, a test with a seed, is a line of ``runs/seeds.jsonl``. A changed test keeps its old lines: delete them to
measure again. ``benchmarks/results/seeds.json`` holds the statistics of all, docs/studies/seeds.md shows them; where
there are no lines, as in a fresh clone, they are written anew from what is published, and only what is new is run.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pages import between

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "runs" / "seeds.jsonl"
RESULTS = Path(__file__).parent / "results" / "seeds.json"
PAGE = ROOT / "docs" / "studies" / "seeds.md"
TAIL = 0.2
"""Share of the statistics that the tail is fitted to."""
ALLOWED = 1e-3
"""Rate of failure that a test may have."""

Content = dict[str, Any]


def restore(cells: Path = CELLS, results: Path = RESULTS) -> None:
    """Where no cell is recorded, those that are published: of each test the seeds from 1 on, in their order."""
    if cells.exists() or not results.exists():
        return
    cells.parent.mkdir(exist_ok=True)
    with cells.open("w") as out:
        for test, row in json.loads(results.read_text()).items():
            columns = {name: check["statistics"] for name, check in row["checks"].items()}
            for seed, values in enumerate(zip(*columns.values(), strict=True), 1):
                told = zip(row["checks"].items(), values, strict=True)
                checks = {name: [value, check["threshold"], check["rate"]] for (name, check), value in told}
                line = {"test": test, "seed": seed, "seconds": row["seconds"], "checks": checks}
                out.write(json.dumps(line) + "\n")


def run(seeds: int, jobs: int, only: str, cells: Path = CELLS) -> int:
    """Run what is not recorded yet, seed by seed, in one process or in as many as asked for."""
    import pytest

    cells.parent.mkdir(exist_ok=True)
    chosen = ["-m", "statistical", *(["-k", only] if only else [])]
    parallel = ["-n", str(jobs)] if jobs > 1 else []
    options = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", f"--seeds={seeds}", f"--record={cells}"]
    return int(pytest.main([*options, *chosen, *parallel, str(ROOT / "tests")]))


def collect(cells: Path = CELLS) -> Content:
    """Of each test its median seconds and, by check, threshold, law and the statistics of all seeds."""
    found: Content = defaultdict(lambda: {"seconds": [], "checks": {}})
    every = [json.loads(line) for line in cells.read_text().splitlines()]
    for cell in {(cell["test"], cell["seed"]): cell for cell in every}.values():
        found[cell["test"]]["seconds"].append(cell["seconds"])
        for name, (statistic, threshold, rate) in cell["checks"].items():
            check = found[cell["test"]]["checks"].setdefault(name, {"statistics": []})
            check |= {"threshold": threshold, "rate": rate}
            check["statistics"].append(float(f"{statistic:.4g}"))
    return {test: {**row, "seconds": round(float(np.median(row["seconds"])), 3)} for test, row in sorted(found.items())}


def exceeds(statistics: NDArray[np.float64], threshold: float) -> float:
    r"""Estimated probability of a statistic above the threshold, from the tail of those seen.

    The excesses over the 80 % quantile are fitted by a generalized Pareto law by moments, ``xi = (1 - m^2 / s^2) / 2``
    and ``sigma = m (1 - xi)``. A tail lighter than an exponential one counts as exponential, so that few seeds do not
    make an end of it by chance. NaN of fewer than 25 statistics.
    """
    count = int(TAIL * len(statistics))
    if count < 5:
        return float("nan")
    ordered = np.sort(statistics)
    start, excess = ordered[-count - 1], ordered[-count:] - ordered[-count - 1]
    mean, variance = excess.mean(), excess.var()
    if mean == 0:
        return 0.0 if threshold >= start else 1.0
    shape = 0.5 * (1 - mean**2 / variance) if variance > mean**2 else 0.0
    distance = (threshold - start) / (mean * (1 - shape))
    factor = np.exp(-distance) if shape == 0 else (1 + shape * distance) ** (-1 / shape)
    return float(min(1.0, count / len(statistics) * factor))


def rate(check: Content) -> float:
    """By the law where there is one, else by the tail."""
    if check["rate"] is not None:
        return check["rate"]
    return exceeds(np.array(check["statistics"]), check["threshold"])


def failures(check: Content) -> int:
    return int((~(np.array(check["statistics"]) <= check["threshold"])).sum())


def summary(content: Content) -> str:
    """Cells, failures, and the least sure tests."""
    cells = [max(len(check["statistics"]) for check in row["checks"].values()) for row in content.values()]
    failed = sum(failures(check) for row in content.values() for check in row["checks"].values())
    rates = {test: sum(rate(check) for check in row["checks"].values()) for test, row in content.items()}
    known = {test: value for test, value in rates.items() if not np.isnan(value)}
    above = [test for test, value in known.items() if value >= ALLOWED]
    seconds = sum(row["seconds"] for row in content.values())
    return (
        f"{len(content)} tests, {sum(cells):,} cells ({min(cells)} to {max(cells)} seeds a test), {failed} failures.\n"
        f"One seed of all costs {seconds:.0f} s of CPU time. The rate of failure is below 1 in 1,000 for "
        f"{len(known) - len(above)} tests, above for {len(above)},\nand not estimated, from fewer than 25 seeds, "
        f"for {len(rates) - len(known)}.\n"
    )


def table(content: Content) -> str:
    """A row for each check."""
    lines = ["| test | what | seeds | median | worst | limit | law | tail |", "|---|---|---|---|---|---|---|---|"]
    for test, row in content.items():
        name = test.split("/")[-1].replace(".py::test_", ": ").replace("|", "\\|")
        for what, check in row["checks"].items():
            values = np.array(check["statistics"])
            law = "" if check["rate"] is None else f"{check['rate']:.0e}"
            numbers = f"{len(values)} | {np.median(values):.3g} | {values.max():.3g} | {check['threshold']:.3g}"
            what = what.replace("|", "\\|")
            lines.append(f"| {name} | {what} | {numbers} | {law} | {_said(exceeds(values, check['threshold']))} |")
            name = ""
    return "\n".join(lines) + "\n"


def _said(value: float) -> str:
    return "" if np.isnan(value) else "< 1e-9" if value < 1e-9 else f"{value:.0e}"


def publish(content: Content, page: Path = PAGE) -> None:
    """Replace the tables between the page's marks."""
    text = page.read_text()
    for name, made in {"summary": summary, "table": table}.items():
        first, last = (f"<!-- benchmarks/seeds.py: {name} {end} -->\n" for end in ("begins", "ends"))
        text = between(text, first, last, made(content))
    page.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds, from 1 on")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", default="", help="tests whose names match, as pytest's -k; 'none': run nothing")
    given = parser.parse_args()
    restore()
    status = 0 if given.only == "none" else run(given.seeds, given.jobs, given.only)
    content = collect()
    RESULTS.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    publish(content)
    print(summary(content), end="")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
