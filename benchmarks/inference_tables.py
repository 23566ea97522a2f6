"""The tables of docs/studies/inference-study.md, from the files that the study left."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inference_families import FAMILIES, SOURCES
from pages import between

PAGE = Path(__file__).parents[1] / "docs" / "studies" / "inference-study.md"
COLUMNS = (
    "family",
    "inference gap",
    "approximation",
    "amortization",
    "log p(x) - IWAE-500",
    "k-hat > 0.7",
    "CPU µs per example",
    "decoder",
    "Λ",
    "products with Λ",
    "training, CPU s",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"

Results = Mapping[str, Mapping[str, Any]]


def read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The reference, and the families that were measured with the same decoder, smallest gap first."""
    found = json.loads((folder / "reference.json").read_text())
    paths = {name: folder / f"{name}.json" for name in FAMILIES}
    every = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    rows = {name: row for name, row in every.items() if row["decoder"] == found["decoder"]}
    return found, dict(sorted(rows.items(), key=lambda item: item[1]["gap"]["value"]))


def approximation(name: str, rows: Results) -> float | None:
    """log p(x) - ELBO of the best member of the family, nats; None where there is none that could be found."""
    member = FAMILIES[name].member or ""
    source = rows.get(SOURCES.get(member, name))
    return None if not member or source is None or source["best"] is None else source["best"]["value"]


def line(name: str, rows: Results) -> str:
    """One family."""
    row, least = rows[name], approximation(name, rows)
    gap, price = row["gap"], row["price"]
    shared = " (w)" if FAMILIES[name].member == "shared weights" else ""
    parts = "n/a | n/a" if least is None else f"{least:.2f}{shared} | {gap['value'] - least:.2f}"
    counts = " | ".join(f"{price[kind]:.3g}" if price[kind] else "" for kind in ("decoder", "precision", "product"))
    return (
        f"| `{name}` | {gap['value']:.2f} ± {gap['stderr']:.2f} | {parts} | {row['iwae']['value']:.2f} "
        f"| {row['flagged']:.0%} | {price['microseconds']:.0f} | {counts} | {row['training_seconds']:.0f} |\n"
    )


def table(folder: Path) -> str:
    """The reference in a sentence, and a row for each family."""
    found, rows = read(folder)
    values = np.array(found["log_likelihood"])
    about = (
        f"{len(values)} test data, log p(x) = {values.mean():.2f} on average; its standard error is "
        f"{found['stderr']:.3f} an example, and k-hat is above 0.7 for {found['flagged']:.0%} of them.\n\n"
    )
    return about + HEAD + "".join(line(name, rows) for name in rows)


def publish(results: Path, names: list[str], page: Path = PAGE) -> None:
    """Replace what stands between the page's marks, for the settings that have both."""
    text = page.read_text()
    for name in names:
        begin, end = (f"<!-- benchmarks/inference_study.py, {name}: {word} -->\n" for word in ("begin", "end"))
        if begin not in text or not (results / name / "reference.json").exists():
            continue
        text = between(text, begin, end, table(results / name))
    page.write_text(text)
