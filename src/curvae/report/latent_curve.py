"""The held-out curve over the number of latents as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from curvae.evaluation.comparison.latent_curve import PICTURE, LatentCurve
from curvae.evaluation.figures import save
from curvae.report.style import BLUE, GRAY, GREEN, ORANGE, canvas, use_report_style


def draw_latent_curve(curve: LatentCurve, folder: Path) -> Path:
    """Write ``latent-curve.png`` into a folder, in the place of an older one."""
    with use_report_style():
        return save(curve_figure(curve), folder / PICTURE, dpi=180, metadata={"Software": None})


def curve_figure(curve: LatentCurve) -> Figure:
    """Left log p(x) and the ELBO, right differences to the best with their paired errors, which are what decides."""
    made = canvas(9.0, 3.4)
    left, right = made.subplots(1, 2)
    latent = np.array([size.latent for size in curve.sizes])
    value, error, bound, difference, paired = (
        np.array([getattr(size, name) for size in curve.sizes])
        for name in ("log_likelihood", "stderr", "elbo", "difference", "difference_stderr")
    )
    left.errorbar(latent, value, error, color=BLUE, marker="o", markersize=4, capsize=3, label="log p(x)")
    if np.isfinite(bound).any():
        left.plot(latent, bound, color=ORANGE, marker="s", markersize=4, label="ELBO")
    left.set(xlabel="latents", ylabel="nats per validation row")
    right.axhline(0, color=GRAY, linewidth=1)
    right.errorbar(latent, difference, paired, color=BLUE, marker="o", markersize=4, capsize=3, label="to the best")
    chosen = latent == curve.fewest
    right.plot(
        latent[chosen], difference[chosen], "o", color=GREEN, markersize=9, zorder=3, label=f"chosen: {curve.fewest}"
    )
    right.set(xlabel="latents", ylabel="log p(x) less the best’s, nats")
    for axes in (left, right):
        axes.set_xticks(latent if len(latent) <= 16 else latent[:: -(-len(latent) // 12)])
        axes.legend(loc="best")
    return made
