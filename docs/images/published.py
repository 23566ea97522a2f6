"""The picture of docs/studies/published.md: log p(x) of each method against T, by the common and the own proposal.

python docs/images/published.py benchmarks/results/published docs/images/published.svg
"""

import sys
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes

from curvae.report import style

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from published_cells import STEPS, kind
from published_tables import BASE, NAMES, Group, mean, read

CURVES = {
    "vae": (style.GRAY, ""),
    "sa-vae": (style.ORANGE, "D"),
    "householder": (style.GREEN, "s"),
    "iaf": (style.BLUE, "^"),
    "vlae": (style.RED, "o"),
}
PROPOSALS = {"common": ("laplace", "common proposal"), "own": ("own", "the model's own posterior")}


def seeds(group: Group, method: str, place: str) -> list[float]:
    """The log p(x) of each seed."""
    return [
        mean({seed: one}, "evaluation", place, "log_likelihood", "value") for seed, one in group.runs[method].items()
    ]


def panel(axes: Axes, group: Group, proposal: str) -> None:
    """A line for each method over T through the means of its seeds, which are small dots; the VAE across all."""
    place, title = PROPOSALS[proposal]
    for shift, (family, (color, marker)) in enumerate(CURVES.items()):
        methods = {kind(name)[1]: seeds(group, name, place) for name in group.runs if kind(name)[0] == family}
        if family == BASE:
            for values in methods.values():
                axes.axhline(fmean(values), color=color, linewidth=1.2, linestyle="--")
                axes.plot([-0.3] * len(values), values, ".", color=color, markersize=5, alpha=0.7)
            continue
        counts = sorted(methods)
        at = [STEPS.index(t) + 0.06 * (shift - 3) for t in counts]
        axes.plot(at, [fmean(methods[t]) for t in counts], color=color, marker=marker, markersize=6, linewidth=1.2)
        for x, t in zip(at, counts, strict=True):
            axes.plot([x] * len(methods[t]), methods[t], ".", color=color, markersize=5, alpha=0.7)
    axes.set_xticks(range(len(STEPS)), [str(t) for t in STEPS])
    axes.set_xlim(-0.4, len(STEPS) - 0.6)
    axes.set_xlabel("T")
    axes.set_ylabel("log p(x), nats")
    axes.set_title(f"{group.data}, {group.network}: {title}")


def draw(source: Path, target: Path) -> None:
    """A row for each group of runs."""
    groups = read(source)
    with style.use_report_style():
        figure = style.canvas(9.5, 0.5 + 3.6 * len(groups))
        for row, group in zip(figure.subplots(len(groups), 2, squeeze=False, sharey="row"), groups, strict=True):
            for axes, proposal in zip(row, PROPOSALS, strict=True):
                panel(axes, group, proposal)
        handles = [
            figure.axes[0].plot(
                [], [], color=color, marker=marker, linestyle="-" if marker else "--", label=NAMES[name]
            )[0]
            for name, (color, marker) in CURVES.items()
            if any(kind(method)[0] == name for group in groups for method in group.runs)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:3]))
