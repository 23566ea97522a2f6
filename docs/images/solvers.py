"""The picture of docs/studies/solvers.md: log joint left to gain against time, a line for each solver.

python docs/images/solvers.py benchmarks/results/solvers.json docs/images/solvers.svg
"""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from curvae.report import style

LINES = {
    "Newton, 3 BFGS": (style.BLUE, "o", "-"),
    "Newton, 8 BFGS": (style.BLUE, "v", "--"),
    "BFGS, one precision": ("#56b4e9", "<", "-"),
    "Newton": (style.ORANGE, "s", "-"),
    "paper schedule": (style.RED, "P", "-"),
    "Levenberg-Marquardt": (style.GREEN, "D", "-"),
    "Gauss-Newton CG, 3": ("#aa4499", "^", "-"),
    "Gauss-Newton CG, 8": ("#aa4499", ">", "--"),
    "gradient": (style.GRAY, "X", "-"),
}
"""Color, marker and dashes."""


def panel(axes: Axes, name: str, model: dict[str, Any]) -> None:
    """One decoder: a point for each number of steps, and the gap before the search as a dotted line."""
    for solver, (color, marker, dashes) in LINES.items():
        rows = model["solvers"][solver]
        times, gaps = ([row[each] for row in rows] for each in ("microseconds", "mean"))
        axes.plot(times, gaps, marker + dashes, color=color, markersize=5, linewidth=1.2, label=solver)
    axes.axhline(model["start"]["mean"], color=style.GRAY, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{name}: D = {model['latent']}, P = {model['outputs']}")


def draw(source: Path, target: Path) -> None:
    """A panel for each decoder."""
    models = json.loads(source.read_text())["models"]
    rows = (len(models) + 1) // 2
    with style.use_report_style():
        figure = style.canvas(10.0, 1.2 + 3.9 * rows)
        panels = figure.subplots(rows, 2, squeeze=False)
        for axes, (name, model) in zip(panels.flat, models.items(), strict=False):
            panel(axes, name, model)
            axes.set_xlabel("µs of CPU per datum")
        for axes in panels[:, 0]:
            axes.set_ylabel("mean gap to the best mode (nats)")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        for axes in panels.flat[len(models) :]:
            axes.set_axis_off()
        figure.legend(handles, labels, loc="outside upper center", ncols=5)
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:3]))
