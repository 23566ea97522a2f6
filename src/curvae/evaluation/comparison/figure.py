"""A comparison as a picture: each run's difference from the first, with its paired error."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from curvae.evaluation.comparison.compare import Comparison


def difference_figure(comparison: "Comparison") -> "Figure":
    """Differences with error bars of two paired standard errors.

    Raises:
        ValueError: there is no difference to draw.
    """
    from matplotlib.figure import Figure

    shown = comparison.differences
    if not shown:
        raise ValueError("figure: there is no difference to draw; compare two runs or more that have a log-likelihood.")
    made = Figure(figsize=(7, 1.4 + 0.45 * len(shown)), layout="constrained")
    axes = made.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    places = range(len(shown))
    axes.errorbar(
        [d.value for d in shown], places, xerr=[2 * d.stderr for d in shown], fmt="o", color="#1f5f8b", capsize=4
    )
    axes.set_yticks(places, [d.name for d in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel(f"log p(x) less that of {shown[0].against}, nats per datum (bars: 2 paired standard errors)")
    axes.set_title(f"{comparison.data}, {comparison.split}, {comparison.count:,} data", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return made
