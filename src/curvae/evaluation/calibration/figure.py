"""Calibration as a picture: ranks against the uniform distribution, and the coverage of intervals."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.calibration.bands import rank_band
from curvae.evaluation.formatting import format_p_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from curvae.evaluation.calibration.calibration import Calibration

JOINT = {"log p(x, z)": "#b3412c", "distance": "#c98a1b"}
"""What sees all latents at once, and its color."""


def rank_figure(found: "Calibration", width: float = 9.0) -> "Figure":
    """The distribution of the ranks less the uniform one, and the band that holds all curves of 95 % of exact ones."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, 3.6), layout="constrained")
    left, right = made.subplots(1, 2)
    at = (np.arange(found.draws + 1) + 1) / (found.draws + 1)
    band = rank_band(len(found.ranks), found.draws, 1 - 0.05 / len(found.names))
    low, high = (np.append(side, len(found.ranks)) / len(found.ranks) - at for side in band)
    left.fill_between(at, low, high, color="0.9", label="95 % of exact posteriors")
    left.axhline(0, color="0.6", linewidth=1)
    for name, ranks in zip(found.names, found.ranks.T, strict=True):
        joint = {"color": JOINT.get(name), "linewidth": 2, "label": name}
        style = joint if name in JOINT else {"color": "#1f5f8b", "alpha": 0.6}
        left.plot(at, distance(ranks, found.draws), **style)
    left.plot([], [], color="#1f5f8b", label="each latent")
    left.set(xlabel="rank of the true value, as a share", ylabel="share of data at or below, less that")
    left.legend(frameon=False, fontsize=8)
    levels = list(found.coverage)
    values, errors = ([getattr(found.coverage[level], name) for level in levels] for name in ("value", "stderr"))
    right.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    right.errorbar(levels, values, yerr=[2 * error for error in errors], fmt="o", color="#1f5f8b", capsize=4)
    right.set(xlabel="level of the interval", ylabel="share of true latents within", xlim=(0, 1), ylim=(0, 1))
    left.set_title(f"{len(found.ranks):,} data drawn from the model: {format_p_value(found.p_value)}", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return made


def distance(ranks: NDArray, draws: int) -> NDArray:
    """Empirical distribution function of the ranks less that of uniform ones, at 0 .. ``draws``."""
    counts = np.bincount(ranks, minlength=draws + 1)
    return counts.cumsum() / len(ranks) - (np.arange(draws + 1) + 1) / (draws + 1)
