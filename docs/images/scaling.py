"""The picture of docs/engine.md: how the cost of Laplace inference grows, measured and predicted.

python docs/images/scaling.py benchmarks/results/scaling.json docs/images/scaling.svg
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from curvae.report import style

CURVES = {
    "default": ("training step, default search", style.BLUE, "o"),
    "unrolled": ("training step, published schedule, unrolled", style.RED, "P"),
    "gram": ("one Λ, Gram route", style.ORANGE, "s"),
    "layerwise": ("one Λ, layerwise route", style.GREEN, "D"),
    "generic": ("one Λ, generic route", style.GRAY, "^"),
}
AXES = {
    "P": "P, decoder outputs",
    "H": "H, hidden width",
    "D": "D, latent dimensions",
    "B": "B, batch",
    "T": "T, steps",
}
KINDS = {"seconds": ("time per datum (µs of CPU)", 1e-6), "bytes": ("peak memory per datum (KiB)", 1024.0)}


def panel(axes: Axes, content: dict[str, Any], axis: str, kind: str) -> None:
    """Measured points, predicted lines (of operations scaled to the last point), and both slopes at the right."""
    values, unit = content["values"][axis], KINDS[kind][1]
    notes = []
    for name, curves in content["sweeps"][axis].items():
        _, color, marker = CURVES[name]
        curve = curves[kind]
        measured = [each / unit for each in curve["measured"]]
        scale = curve["measured"][-1] / curve["predicted"][-1] if kind == "seconds" else 1.0
        predicted = [each * scale / unit for each in curve["predicted"]]
        axes.plot(values, measured, marker, color=color, markersize=5)
        axes.plot(values, predicted, color=color, linewidth=0.9)
        notes.append((measured[-1], f"{curve['slope']:z.2f} | {curve['predicted_slope']:z.2f}", color))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(values, [str(value) for value in values])
    axes.tick_params(which="minor", bottom=False, left=False, labelleft=False)
    low, high = axes.get_ylim()
    for height, (_, text, color) in zip(spread([note[0] for note in notes], low, high), notes, strict=True):
        axes.annotate(text, (1.02, height), xycoords="axes fraction", color=color, va="center", fontsize=9.5)


def spread(values: list[float], low: float, high: float, gap: float = 0.095) -> list[float]:
    """Heights of the labels in [0, 1], near the values, no two closer than ``gap``."""
    span = math.log(high / low)
    wanted = sorted((math.log(value / low) / span, index) for index, value in enumerate(values))
    heights: dict[int, float] = {}
    floor = 0.0
    for height, index in wanted:
        heights[index] = max(height, floor)
        floor = heights[index] + gap
    excess = max(0.0, floor - gap - 1.0)
    return [heights[index] - excess for index in range(len(values))]


def draw(source: Path, target: Path) -> None:
    """A row for each of P, H, D, B and T; time at the left, memory at the right."""
    content = json.loads(source.read_text())
    with style.use_report_style():
        figure = style.canvas(10.0, 14.5)
        panels = figure.subplots(len(AXES), 2)
        for row, (axis, label) in zip(panels, AXES.items(), strict=True):
            for axes, kind in zip(row, KINDS, strict=True):
                panel(axes, content, axis, kind)
                axes.set_xlabel(label)
                axes.set_ylabel(KINDS[kind][0])
        for axes in panels[0]:
            axes.annotate(
                "slope:\nmeasured |\npredicted", (1.02, 1.06), xycoords="axes fraction", va="bottom", fontsize=9
            )
        handles = [
            panels[0, 0].plot([], [], marker + "-", color=color, markersize=5, linewidth=0.9, label=label)[0]
            for label, color, marker in CURVES.values()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:3]))
