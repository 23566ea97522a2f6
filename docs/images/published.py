"""The picture of docs/published.md: log p(x) of each method against T, by the common proposal and by its own posterior.

python docs/images/published.py benchmarks/results/published docs/images/published.svg
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes

from curvae.report import style

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from published_cells import STEPS, kind
from published_tables import BASE, NAMES, Group, ahead, mean, read

CURVES = {
    "vae": (style.GRAY, ""),
    "sa-vae": (style.ORANGE, "D"),
    "householder": (style.GREEN, "s"),
    "iaf": (style.BLUE, "^"),
    "vlae": (style.RED, "o"),
}
PROPOSALS = {"common": ("laplace", "common proposal"), "own": ("own", "the model's own posterior")}


def panel(axes: Axes, group: Group, proposal: str) -> None:
    """A line for each method over T, with the error of its difference from the VAE; the VAE across all."""
    place, title = PROPOSALS[proposal]
    for family, (color, marker) in CURVES.items():
        methods = {kind(name)[1]: name for name in group.runs if kind(name)[0] == family}
        counts = sorted(methods)
        values = [mean(group.runs[methods[t]], "evaluation", place, "log_likelihood", "value") for t in counts]
        if family == BASE:
            for value in values:
                axes.axhline(value, color=color, linewidth=1.2, linestyle="--")
            continue
        paired = [ahead(group, methods[t], proposal) for t in counts]
        errors = [0.0 if each is None else 2 * each[0].stderr for each in paired]
        positions = [STEPS.index(t) for t in counts]
        axes.errorbar(positions, values, errors, color=color, marker=marker, markersize=6, linewidth=1.2, capsize=2)
    axes.set_xticks(range(len(STEPS)), [str(t) for t in STEPS])
    axes.set_xlim(-0.4, len(STEPS) - 0.6)
    axes.set_xlabel("T")
    axes.set_ylabel("log p(x), nats")
    axes.set_title(f"{group.data}, {group.network}: {title}")


def draw(source: Path, target: Path) -> None:
    """A row for each group of runs."""
    groups = read(source)
    with style.applied():
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
