"""The README's picture, from two evaluated runs: what a diagonal posterior leaves out, datum by datum.

python docs/images/posterior.py runs/mnist-vae runs/mnist-vlae docs/images/posterior.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

COUNT = 6


def correlation(covariance: np.ndarray) -> np.ndarray:
    """(N, D, D), the diagonal left out."""
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    full = covariance / (scale[:, :, None] * scale[:, None, :])
    full[:, np.arange(full.shape[1]), np.arange(full.shape[1])] = np.nan
    return full


def draw(first: Path, second: Path, target: Path) -> None:
    """Data above, the correlations of one run's posteriors in the middle, those of the other's below."""
    runs = [np.load(folder / "pictures.npz", allow_pickle=False) for folder in (first, second)]
    figure = Figure(figsize=(9.2, 4.9), layout="constrained")
    axes = figure.subplots(3, COUNT)
    for row, (name, run) in enumerate(zip((first.name, second.name), runs, strict=True), start=1):
        for column, matrix in enumerate(correlation(run["covariances"][:COUNT])):
            image = axes[row, column].imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axes[row, 0].set_ylabel(f"{name}\nposterior correlation")
    for column, datum in enumerate(runs[0]["originals"][:COUNT]):
        axes[0, column].imshow(datum[0], cmap="gray_r")
    axes[0, 0].set_ylabel("datum")
    for each in axes.flat:
        each.set_xticks([])
        each.set_yticks([])
        each.set_facecolor("0.9")
    figure.colorbar(image, ax=axes[1:], shrink=0.8)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(*(Path(word) for word in sys.argv[1:4]))
