"""What both studies of fits share: a line for each cell that is done, and the arguments that say which to run."""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "fits"
PAGE = Path(__file__).parents[2] / "docs" / "fits.md"

Row = dict[str, Any]


class Cells:
    """Lines of a file, one a cell, known by some of their entries: what was cut off goes on.

    Args:
        path: of the file.
        keys: entries that tell cells apart.
    """

    def __init__(self, path: Path, *keys: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.keys = keys
        self.rows: list[Row] = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def __contains__(self, place: tuple[Any, ...]) -> bool:
        return any(tuple(row[key] for key in self.keys) == place for row in self.rows)

    def add(self, row: Row) -> None:
        row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        self.rows.append(row)
        with self.path.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(json.dumps(row)[:300], flush=True)


def over_seeds(values: list[float], errors: list[float]) -> tuple[float, float]:
    """A mean over seeds and its error: that over the data or, where it is larger, that over the seeds.

    >>> over_seeds([1.0, 1.0], [0.5, 0.5]), over_seeds([0.0, 2.0], [0.5, 0.5])
    ((1.0, 0.3535...), (1.0, 1.0))
    """
    within = sum(error**2 for error in errors) / len(errors) ** 2
    between = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    return statistics.mean(values), max(within, between) ** 0.5


def halves(values: list[float], digits: int) -> str:
    """A mean over seeds, and half their range where there are several.

    >>> halves([1.0, 2.0], 1), halves([1.0], 1)
    ('1.5 ± 0.5', '1.0')
    """
    spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of the arguments that both studies take."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("folder", type=Path, help="of the data, as docs/fits.md says")
    found.add_argument("--systems", nargs="+", default=["vae", "vlae"])
    found.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    found.add_argument("--trial", help="name of an attempt with other arguments than the defaults")
    found.add_argument("--options", type=json.loads, default={}, help="of the system, as JSON")
    found.add_argument("--training", type=json.loads, default={}, help="of the training, as JSON")
    found.add_argument("--target", type=Path, default=RESULTS, help="folder of the lines")
    found.add_argument("--list", action="store_true", help="only write the table, from what is there")
    return found


def place(given: argparse.Namespace, name: str) -> Path:
    """Where the lines of a study lie, or those of a trial."""
    return given.target / (f"trial-{given.trial}.jsonl" if given.trial else f"{name}.jsonl")
