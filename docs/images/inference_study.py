"""The picture of docs/studies/inference-study.md: the gap of each posterior family against what an example costs.

python docs/images/inference_study.py benchmarks/results/inference_study docs/images/inference-study.svg
"""

import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from curvae.report import style

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from inference_families import FAMILIES
from inference_tables import read

KINDS = {
    "one pass": (style.GRAY, "o"),
    "flow": (style.GREEN, "^"),
    "mixture": (style.BLUE, "s"),
    "refined": (style.ORANGE, "D"),
    "curvature": (style.RED, "P"),
    "simulated": ("#332288", "v"),
}
SIDES = (
    ((6, 0), {"ha": "left", "va": "center"}),
    ((-6, 0), {"ha": "right", "va": "center"}),
    ((0, -6), {"ha": "center", "va": "top"}),
    ((0, 6), {"ha": "center", "va": "bottom"}),
    ((6, -5), {"ha": "left", "va": "top"}),
    ((-6, -5), {"ha": "right", "va": "top"}),
    ((6, 5), {"ha": "left", "va": "bottom"}),
    ((-6, 5), {"ha": "right", "va": "bottom"}),
)
PLAIN = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
HIGHEST = 20
"""Nats of a gap that is drawn; those above are in the tables only."""
TITLES = {"digits": "digits, 8 x 8, Gaussian output", "mnist": "binarized MNIST, Bernoulli output"}


def frontier(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Families that no other one beats in both price and gap, cheapest first."""
    ordered = sorted(rows, key=lambda name: rows[name]["price"]["microseconds"])
    best, found = float("inf"), []
    for name in ordered:
        gap = rows[name]["gap"]["value"]
        if gap < best:
            best, found = gap, [*found, name]
    return found


def shown(folder: Path) -> dict[str, dict[str, Any]]:
    """The families that are drawn."""
    return {name: row for name, row in read(folder)[1].items() if row["gap"]["value"] <= HIGHEST}


def panel(axes: Axes, folder: Path) -> None:
    """A point for each family, and a line through those that no other one beats."""
    rows = shown(folder)
    for name, row in rows.items():
        color, marker = KINDS[FAMILIES[name].kind]
        axes.plot(*point(row), marker, color=color, markersize=6)
    front = [point(rows[name]) for name in frontier(rows)]
    axes.plot(*zip(*front, strict=True), color="#9ca3af", linewidth=0.9, drawstyle="steps-post", zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.16, 0.08)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=9)
    axes.set_title(TITLES[folder.name])
    axes.set_xlabel("CPU time per example (µs)")
    axes.set_ylabel("log p(x) - ELBO (nats)")


def point(row: dict[str, Any]) -> tuple[float, float]:
    """Where a family stands."""
    return row["price"]["microseconds"], row["gap"]["value"]


def label(axes: Axes, folder: Path) -> None:
    """Names, those on the frontier first; each at the first side of its point that is free, or not at all."""
    rows = shown(folder)
    spots = [axes.transData.transform(point(row)) for row in rows.values()]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in spots]
    front = frontier(rows)
    for name in [*front, *(name for name in rows if name not in front)]:
        for offset, sides in SIDES:
            looks = {"textcoords": "offset points", "fontsize": 8.5, "bbox": PLAIN, **sides}
            text = axes.annotate(name, point(rows[name]), offset, **looks)
            box = text.get_window_extent()
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def draw(source: Path, target: Path) -> None:
    """A panel for each data set that was measured."""
    folders = [source / name for name in TITLES if (source / name / "reference.json").exists()]
    with style.use_report_style():
        figure = style.canvas(6.0, 4.9 * len(folders))
        for axes, folder in zip(figure.subplots(len(folders), squeeze=False)[:, 0], folders, strict=True):
            panel(axes, folder)
        handles = [
            figure.axes[0].plot([], [], marker, color=color, label=kind)[0] for kind, (color, marker) in KINDS.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
        FigureCanvasAgg(figure).draw()
        figure.set_layout_engine("none")
        for axes, folder in zip(figure.axes, folders, strict=True):
            label(axes, folder)
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:3]))
