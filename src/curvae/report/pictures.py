"""Tiles of images, parity plots, the latent plane and posterior covariances: arrays in, pixels or a figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from curvae.data.schema import Column
from curvae.report.style import BLUE, GRAY, LABELS, MARKERS, ORANGE, canvas

CHI2_95 = -2 * np.log(0.05)
"""The 95% quantile of chi-square with two degrees of freedom, in closed form: 5.991."""

ELLIPSES = 20
"""How many posteriors are drawn in the latent plane."""

COLUMNS = 6
"""How many columns of a table are drawn."""

WORD, ROOM = 12, 20
"""Letters of a word below an axis, and of all of them side by side."""


def shows_as_image(data: np.ndarray) -> bool:
    """Whether data (N, *event) are images: events (C, H, W), gray or RGB."""
    return data.ndim == 4 and data.shape[1] in (1, 3)


def shows_as_movie(data: np.ndarray) -> bool:
    """Whether data (N, *event) are sequences of pictures: events (T, H, W) whose T is no number of colors."""
    return data.ndim == 4 and data.shape[1] not in (1, 3, 4)


def gray_range(data: np.ndarray) -> tuple[float, float]:
    """The values drawn as black and as white: the range of the data themselves."""
    finite = data[np.isfinite(data)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high if high > low else low + 1.0


def tiles(images: np.ndarray, columns: int, limits: tuple[float, float], below: np.ndarray | None = None) -> np.ndarray:
    """One image (height, width, 3) in [0, 1] of many (N, C, H, W), and under each that of ``below``.

    They are enlarged by a whole factor to tiles of 84 pixels or more; ``limits`` are drawn as black and white.
    """
    first = _pixels(images, limits)
    gap = 4
    seam = np.ones((len(first), gap // 2, *first.shape[2:]))
    pairs = first if below is None else np.concatenate([first, seam, _pixels(below, limits)], axis=1)
    height, width = pairs.shape[1:3]
    space = gap if below is None else 4 * gap
    rows = -(-len(pairs) // columns)
    sheet = np.ones((rows * (height + space) - space, columns * (width + gap) - gap, 3))
    for number, pair in enumerate(pairs):
        top, left = number // columns * (height + space), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = pair
    return sheet


def _pixels(images: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """(N, C, H, W) -> (N, H', W', 3) in [0, 1], enlarged."""
    low, high = limits
    colored = np.nan_to_num(np.clip((images - low) / (high - low), 0, 1)).transpose(0, 2, 3, 1)
    colored = np.repeat(colored, 3, axis=-1) if colored.shape[-1] == 1 else colored
    factor = max(1, -(-84 // max(colored.shape[1:3])))
    return colored.repeat(factor, axis=1).repeat(factor, axis=2)


def parity_plot(originals: np.ndarray, reconstructions: np.ndarray, features: Sequence[Column] = ()) -> Figure:
    """Reconstructed against original values (N, columns), one panel for each of the first columns, by their names."""
    figure, panels = _panels(originals.shape[1])
    for column, axes in enumerate(panels):
        both = np.stack([originals[:, column], reconstructions[:, column]])
        x, y = both = both[:, np.isfinite(both).all(0)]
        if both.size:
            axes.plot([both.min(), both.max()], [both.min(), both.max()], color=GRAY, linewidth=1, zorder=1)
        axes.scatter(x, y, s=10, color=BLUE, alpha=0.7, linewidths=0, rasterized=len(x) > 500)
        _name(axes, column, features, both=True)
    figure.supxlabel("original", fontsize=10)
    figure.supylabel("reconstruction", fontsize=10)
    return figure


def column_histograms(samples: np.ndarray, originals: np.ndarray, features: Sequence[Column] = ()) -> Figure:
    """Histogram of the samples' first columns, the originals as outlines, both as densities."""
    figure, panels = _panels(samples.shape[1])
    for column, axes in enumerate(panels):
        s, x = (values[:, column][np.isfinite(values[:, column])] for values in (samples, originals))
        bins = _bins(np.concatenate([s, x]), features[column] if features else None)
        if len(s):
            axes.hist(s, bins, density=True, color=BLUE, alpha=0.45, label="samples")
        if len(x):
            axes.hist(x, bins, density=True, color=ORANGE, histtype="step", linewidth=1.5, label="data")
        _name(axes, column, features)
        axes.set_yticks([])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    figure.supylabel("density", fontsize=10)
    return figure


def _bins(values: np.ndarray, column: Column | None) -> list[float]:
    """Ten cells, or one for each word."""
    if column is None or column.vocabulary is None:
        return np.histogram_bin_edges(values, 10).tolist()
    return (np.arange(len(column.vocabulary) + 1) - 0.5).tolist()


def _name(axes: Axes, column: int, features: Sequence[Column], both: bool = False) -> None:
    """What a panel shows: the name of its column, or its place; words in the place of their codes."""
    axes.set_title(features[column].name if features else f"column {column + 1}")
    if features and (words := features[column].vocabulary):
        shown = [word if len(word) <= WORD else f"{word[: WORD - 1]}…" for word in words]
        axes.set_xticks(range(len(shown)), shown, rotation=90 if len("".join(shown)) > ROOM else 0)
        if both:
            axes.set_yticks(range(len(shown)), shown)


def _panels(wanted: int) -> tuple[Figure, list[Axes]]:
    number = min(wanted, COLUMNS)
    rows, columns = (number + 2) // 3, min(number, 3)
    figure = canvas(5.4, 0.5 + 1.75 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[number:]:
        unused.set_axis_off()
    for axes in panels:
        axes.tick_params(labelsize=8)
    return figure, panels[:number]


def plane(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The two directions in which the means vary most: origin (D,), rotation (D, 2), share of variance.

    In two dimensions the latent axes themselves, and of a single mean the first two.
    """
    if means.shape[1] == 2:
        return np.zeros(2), np.eye(2), 1.0
    origin = means.mean(0)
    if len(means) < 2:
        return origin, np.eye(means.shape[1])[:, :2], 0.0
    _, scale, directions = np.linalg.svd(means - origin, full_matrices=False)
    total = (scale**2).sum()
    return origin, directions[:2].T, float((scale[:2] ** 2).sum() / total) if total > 0 else 0.0


def latent_plot(
    means: np.ndarray,
    covariances: np.ndarray,
    labels: np.ndarray | None,
    ellipses: int = ELLIPSES,
    title: str = "label",
) -> Figure:
    """Posterior means (n, D) in the plane, and the 95% ellipses of the covariances (m, D, D) of the first m of them.

    The ten most frequent labels (n,) get a color and a marker.
    """
    figure = canvas(5.4, 4.3)
    axes = figure.subplots()
    origin, rotation, _ = plane(means)
    points = (means - origin) @ rotation
    groups = label_groups(labels, len(means))
    size = float(np.clip(6000 / len(means), 7, 24))
    color = np.full(len(means), "#9ca3af", dtype=object)
    for number, (name, rows) in enumerate(groups.items()):
        shade = "#b6bcc6" if name == "other" else LABELS[number % 10] if len(groups) > 1 else BLUE
        color[rows] = shade
        marker = MARKERS[number % 10] if len(groups) > 1 else "o"
        axes.scatter(*points[rows].T, s=size, color=shade, marker=marker, alpha=0.55, linewidths=0, rasterized=True)
    flat = np.einsum("di,ndk,kj->nij", rotation, covariances[:ellipses], rotation)
    for point, covariance, shade in zip(points, flat, color, strict=False):
        if np.isfinite(covariance).all():
            axes.add_patch(ellipse(point, covariance, shade))
    if len(groups) > 1:
        _legend(figure, list(groups), title)
    names = ("z0", "z1") if means.shape[1] == 2 else ("first principal direction", "second principal direction")
    axes.set(xlabel=names[0], ylabel=names[1], aspect="equal", adjustable="datalim")
    axes.autoscale_view()
    return figure


def label_groups(labels: np.ndarray | None, n: int) -> Mapping[str, np.ndarray]:
    """Legend entry -> (n,) bool; beyond ten different labels the rarer ones are "other"."""
    if labels is None or not len(labels):
        return {"data": np.ones(n, dtype=bool)}
    values, counts = np.unique(labels, return_counts=True)
    kept = np.sort(values[np.argsort(-counts, kind="stable")][: 10 if len(values) <= 10 else 9])
    groups = {f"{value:g}" if np.issubdtype(labels.dtype, np.number) else str(value): labels == value for value in kept}
    return groups if len(values) <= 10 else {**groups, "other": ~np.isin(labels, kept)}


def ellipse(center: np.ndarray, covariance: np.ndarray, color: str) -> Ellipse:
    """The 95% ellipse of a Gaussian in the plane."""
    variance, axes = np.linalg.eigh(covariance)
    width, height = 2 * np.sqrt(np.maximum(variance, 0) * CHI2_95)
    angle = float(np.degrees(np.arctan2(axes[1, 0], axes[0, 0])))
    place = (float(center[0]), float(center[1]))
    return Ellipse(place, width, height, angle=angle, facecolor=(*_rgb(color), 0.06), edgecolor=color, linewidth=1)


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _legend(figure: Figure, names: list[str], title: str) -> None:
    shades = [("#b6bcc6" if name == "other" else LABELS[number % 10]) for number, name in enumerate(names)]
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[number % 10], color=shade, label=name, markersize=6)
        for number, (name, shade) in enumerate(zip(names, shades, strict=True))
    ]
    figure.legend(handles=handles, title=title, loc="outside right upper", handletextpad=0.1)


def correlation(covariance: np.ndarray) -> np.ndarray:
    """(..., D, D) -> the same with ones on the diagonal; a dimension without variance correlates with nothing."""
    scale = np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0))
    safe = np.where(scale > 0, scale, np.inf)
    scaled = covariance / safe[..., :, None] / safe[..., None, :]
    return np.where(np.eye(covariance.shape[-1], dtype=bool), 1.0, np.clip(scaled, -1, 1))


def correlation_plot(covariances: np.ndarray, titles: list[str]) -> Figure:
    """Correlations of the first eight of (n, D, D) on one diverging scale from -1 to 1; the diagonal is left gray."""
    number = min(8, len(covariances))
    columns = min(4, number)
    rows = -(-number // columns)
    figure = canvas(1.08 * columns + 1.0, 1.25 * rows + 0.25)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    off = np.where(np.eye(covariances.shape[-1]) == 1, np.nan, correlation(covariances))
    colors = colormaps["RdBu_r"].with_extremes(bad="#c3c8cf")
    shown = None
    for axes, matrix, title in zip(panels, off, titles, strict=False):
        shown = axes.imshow(matrix, cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9.5, color="#1f2937", parse_math=False)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    for unused in panels[number:]:
        unused.set_axis_off()
    if shown is not None:
        figure.colorbar(shown, ax=panels, label="correlation", shrink=0.9, aspect=25, ticks=[-1, 0, 1])
    return figure
