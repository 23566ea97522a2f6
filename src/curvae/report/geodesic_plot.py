"""The part of the page on shortest curves in a latent plane, over how uncertain the decoder is there."""

import numpy as np
from matplotlib.figure import Figure

from curvae.evaluation import formatting
from curvae.report import page, style
from curvae.report.page import PageSection
from curvae.report.snapshot import Snapshot

NEEDED = ("geodesics", "geodesic_length", "straight_length", "plane_spread", "plane_range", "latent_mean")


def geodesic_sections(run: Snapshot) -> list[PageSection]:
    """A plot for two latents and a posterior over the decoder's weights; for other runs nothing."""
    arrays = run.pictures
    if not all(name in arrays and len(arrays[name]) for name in NEEDED):
        return []
    figure = geodesic_plot(*(arrays[name] for name in ("latent_mean", "geodesics", "plane_spread", "plane_range")))
    pairs = zip(arrays["geodesic_length"].tolist(), arrays["straight_length"].tolist(), strict=True)
    lengths = "; ".join(
        f"{formatting.format_number(one, figures=3)} and {formatting.format_number(two, figures=3)}"
        for one, two in pairs
    )
    caption = (
        "Curves that join codes (dots) by the shortest way, as the decoder moves along them, root mean square over "
        "draws of its weights; dashed are straight lines. The darker the plane, the more the draws disagree. Lengths "
        f"along curves and lines, in the model’s units: {lengths}."
    )
    alt = "Curves in the latent plane, on shades of the decoder’s uncertainty."
    return [PageSection("geodesics", "Shortest curves", page.figure_tag(style.png(figure), alt, caption, "wide"))]


def geodesic_plot(means: np.ndarray, curves: np.ndarray, spread: np.ndarray, ends: np.ndarray) -> Figure:
    """Codes (n, 2), curves (K, S, 2) and their chords over shades (G, G) of the rectangle ``ends``."""
    figure = style.canvas(5.4, 4.3)
    axes = figure.subplots()
    shades = axes.imshow(spread, extent=tuple(ends.tolist()), origin="lower", cmap="Greys", aspect="auto", alpha=0.8)
    axes.scatter(*means.T, s=5, color=style.BLUE, alpha=0.35, linewidths=0, rasterized=True)
    for curve in curves:
        axes.plot(*curve.T, color=style.ORANGE)
        axes.plot(*curve[[0, -1]].T, color=style.GREEN, linestyle="--", linewidth=1, marker="o", markersize=4)
    figure.colorbar(shades, ax=axes, label="standard deviation of the decoder’s mean")
    axes.grid(visible=False)
    axes.set(xlabel="z0", ylabel="z1", xlim=ends[:2], ylim=ends[2:])
    return figure
