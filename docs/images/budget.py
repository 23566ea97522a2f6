"""The picture and the table of docs/budget.md: test log-likelihood against CPU time, and the gap to the ELBO.

python docs/images/budget.py benchmarks/results/budget docs/images/budget.svg
python docs/images/budget.py benchmarks/results/budget/anytime docs/images/anytime.svg
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes

from curvae.report import style

CURVES = {
    "vae": ("plain VAE", style.GRAY, "^"),
    "averaged": ("plain VAE, averaged weights", style.BLUE, "o"),
    "budget": ("VLAE under the budget, averaged weights", style.ORANGE, "s"),
    "finish": ("refined for the last tenth", style.GREEN, "D"),
    "late": ("refined from minute 5", "#aa4499", "s"),
    "memory": ("the same with memory", "#332288", "v"),
    "published": ("published schedule", style.RED, "P"),
}
TAKEN_OVER = {"late": 5.0, "memory": 5.0}
"""CPU minutes before which a curve is that of the plain VAE; only its last such point is drawn."""

Runs = dict[str, list[dict[str, Any]]]


def read(folder: Path) -> Runs:
    """The runs of each curve, one a seed."""
    found = {name: [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-*.json"))] for name in CURVES}
    found["averaged"] = [{**run, "points": run["averaged"]} for run in found["vae"] if "averaged" in run]
    for name, minute in TAKEN_OVER.items():
        for run in found[name]:
            run["points"] = [point for point in run["points"] if point["minutes"] > minute - 0.1]
    return {name: runs for name, runs in found.items() if runs}


Value = Callable[[dict[str, Any], int], float]
"""Of a point and a seed."""


def plain(runs: Runs) -> dict[int, dict[int, float]]:
    """The log p(x) of the plain VAE, by seed and minute."""
    return {run["seed"]: {round(p["minutes"]): p["log_likelihood"] for p in run["points"]} for run in runs["vae"]}


def panel(axes: Axes, runs: Runs, value: Value, label: str, bottom: float) -> None:
    """The mean over the seeds as a line, each seed as a dot; what lies below the panel is written at its foot."""
    for name, each in runs.items():
        text, color, marker = CURVES[name]
        rows = list(
            zip(*([(p["minutes"], value(p, run["seed"])) for p in run["points"]] for run in each), strict=False)
        )
        minutes, values = ([mean(pair[i] for pair in row) for row in rows] for i in range(2))
        axes.plot(minutes, values, marker + "-", color=color, markersize=5, label=text)
        for row in rows:
            axes.plot(*zip(*row, strict=True), ".", color=color, markersize=3, alpha=0.6)
        for at, height in zip(minutes, values, strict=True):
            if height < bottom:
                axes.annotate(f"↓ {height:.0f}", (at, bottom), color=color, va="bottom", ha="center", fontsize=9)
    axes.set_xlabel("CPU minutes of training")
    axes.set_ylabel(label)
    heights = [value(point, run["seed"]) for each in runs.values() for run in each for point in run["points"]]
    axes.set_ylim(bottom, 1.1 * max(heights))


def draw(source: Path, target: Path) -> None:
    """How far each curve is ahead of the plain VAE at the left, the gap at the right."""
    runs = read(source)
    base = plain(runs)
    with style.applied():
        figure = style.canvas(10.0, 4.2)
        left, right = figure.subplots(1, 2)
        label = "test log p(x) less that of the VAE, nats"
        panel(left, runs, lambda p, seed: p["log_likelihood"] - base[seed][round(p["minutes"])], label, -6.0)
        panel(right, runs, lambda p, _: p["log_likelihood"] - p["elbo"], "log p(x) − ELBO, nats", 0.0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5)
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=110)


def table(source: Path) -> None:
    """The rows of docs/budget.md; differences are to the plain VAE of the same seed at the same time."""
    print("| CPU minutes | run | epochs | log p(x) | ELBO | ahead of the VAE | of each seed |\n" + "|---" * 7 + "|")
    runs, rows = read(source), []
    base = plain(runs)
    for name, each in runs.items():
        for points in zip(*(run["points"] for run in each), strict=False):
            minute = round(points[0]["minutes"])
            if minute < TAKEN_OVER.get(name, 0.0) + 0.1:
                continue
            of = {key: mean(point[key] for point in points) for key in points[0]}
            ahead = [p["log_likelihood"] - base[run["seed"]][minute] for p, run in zip(points, each, strict=True)]
            cells = [CURVES[name][0], f"{of['epoch']:.0f}", f"{of['log_likelihood']:.1f}", f"{of['elbo']:.1f}"]
            more = [f"{mean(ahead):+.1f}", ", ".join(f"{value:+.1f}" for value in ahead)]
            rows.append((minute, list(CURVES).index(name), [*cells, *(["", ""] if name == "vae" else more)]))
    for minute, _, cells in sorted(rows):
        print(f"| {minute} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:3]))
    table(Path(sys.argv[1]))
