"""The picture and the table of docs/budget.md: test log-likelihood against CPU time, and the gap to the ELBO.

python docs/images/budget.py benchmarks/results/budget docs/images/budget.svg
"""

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes

from curvae.report import style

CURVES = {
    "vae": ("plain VAE", style.GRAY, "^"),
    "published": ("VLAE, published schedule", style.RED, "P"),
    "budget": ("VLAE with budget, h = 8", style.BLUE, "o"),
    "late": ("plain VAE, refined from minute 5", style.GREEN, "D"),
    "memory": ("VLAE with budget and memory", style.ORANGE, "s"),
}

TAKEN_OVER = {"late": 5.0}
"""CPU minutes before which a curve is that of the plain VAE; only its last such point is drawn."""

Runs = dict[str, list[dict[str, Any]]]


def read(folder: Path) -> Runs:
    """The runs of each curve, one a seed."""
    found = {name: [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-*.json"))] for name in CURVES}
    for name, minute in TAKEN_OVER.items():
        for run in found[name]:
            run["points"] = [point for point in run["points"] if point["minutes"] > minute - 0.1]
    return {name: runs for name, runs in found.items() if runs}


def line(runs: list[dict[str, Any]], value: Any) -> tuple[list[float], list[float]]:
    """Minutes and the mean over the seeds, as far as all of them have come."""
    rows = list(zip(*(run["points"] for run in runs), strict=False))
    return [mean(point["minutes"] for point in row) for row in rows], [mean(map(value, row)) for row in rows]


def rise(runs: list[dict[str, Any]]) -> float | None:
    """CPU minutes until the first level was left, mean over the seeds that did."""
    ends = [[each["seconds"] for each in run["reviews"] if each["level"] == 0] for run in runs]
    left = [end[-1] / 60 for end, run in zip(ends, runs, strict=True) if end and run["reviews"][-1]["level"] > 0]
    return mean(left) if left else None


def panel(axes: Axes, runs: Runs, value: Any, label: str, bottom: float) -> None:
    """One line a curve; what lies below the panel is written at its foot."""
    for name, each in runs.items():
        text, color, marker = CURVES[name]
        minutes, values = line(each, value)
        axes.plot(minutes, values, marker + "-", color=color, markersize=5, label=text)
        for at, height in zip(minutes, values, strict=True):
            if height < bottom:
                axes.annotate(f"↓ {height:.0f}", (at, bottom), color=color, va="bottom", ha="center", fontsize=9)
    axes.set_xlabel("CPU minutes of training")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=bottom)


def mark(axes: Axes, runs: Runs) -> None:
    """Where the budget left its first level."""
    if at := rise(runs.get("budget", [])):
        where = ("data", "axes fraction")
        axes.axvline(at, color=style.BLUE, linewidth=0.9, linestyle=":")
        axes.annotate(" refines from here", (at, 0.02), xycoords=where, color=style.BLUE, fontsize=9)


def draw(source: Path, target: Path) -> None:
    """Log-likelihood at the left, gap at the right."""
    runs = read(source)
    with style.applied():
        figure = style.canvas(10.0, 4.2)
        left, right = figure.subplots(1, 2)
        panel(left, runs, lambda point: point["log_likelihood"], "test log p(x), nats", 520.0)
        mark(left, runs)
        panel(right, runs, lambda point: point["log_likelihood"] - point["elbo"], "log p(x) − ELBO, nats", 0.0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=110)


def table(source: Path) -> None:
    """The rows of docs/budget.md."""
    print("| CPU minutes | run | seeds | epochs | log p(x) | ELBO | gap | k-hat > 0.7 |\n" + "|---" * 8 + "|")
    rows = []
    for name, runs in read(source).items():
        for points in zip(*(run["points"] for run in runs), strict=False):
            if points[0]["minutes"] < TAKEN_OVER.get(name, 0.0) + 0.1:
                continue
            of = {key: mean(point[key] for point in points) for key in points[0]}
            likelihood, elbo = of["log_likelihood"], of["elbo"]
            cells = [CURVES[name][0], len(runs), f"{of['epoch']:.0f}", f"{likelihood:.1f}", f"{elbo:.1f}"]
            cells += [f"{likelihood - elbo:.1f}", f"{100 * of['khat_above']:.0f} %"]
            rows.append((round(of["minutes"], 1), list(CURVES).index(name), cells))
    for minutes, _, cells in sorted(rows):
        print(f"| {minutes:.0f} | " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:3]))
    table(Path(sys.argv[1]))
