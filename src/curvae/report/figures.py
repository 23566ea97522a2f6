"""Curves, histograms and bars: arrays in, a matplotlib figure out. No files, no words of the page."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from curvae.report.style import BLUE, GRAY, GREEN, ORANGE, RED, canvas

_COLORS = (BLUE, ORANGE, GREEN, RED)


def curves(
    x: np.ndarray,
    lines: Mapping[str, np.ndarray],
    xlabel: str,
    ylabel: str,
    stages: np.ndarray | None = None,
    log: bool = False,
    clip: bool = False,
) -> Figure:
    """Lines (rows,) against x (rows,), one for each name; NaN are left out.

    ``stages`` (rows,) are named at the top, every second one shaded; ``clip`` starts the frame at ``lowest_shown``.
    """
    figure = canvas()
    axes = figure.subplots()
    for (name, y), color in zip(lines.items(), _COLORS, strict=False):
        shown = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log))
        axes.plot(x[shown], y[shown], label=name, color=color, marker="o" if shown.sum() < 15 else None, markersize=3.5)
    if log:
        _logarithmic(axes)
    lowest = lowest_shown(list(lines.values())) if clip else None
    if lowest is not None:
        axes.set_ylim(bottom=lowest)
    if stages is not None:
        _shade(axes, x, stages)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        _legend_above(figure)
    return figure


def lowest_shown(lines: Sequence[np.ndarray]) -> float | None:
    """Where to cut a learning curve whose first quarter lies far below the rest; None = nowhere."""
    late = [line[len(line) // 4 :] for line in lines if len(line) >= 8]
    values = np.concatenate([line[np.isfinite(line)] for line in late]) if late else np.array([])
    everything = np.concatenate([line[np.isfinite(line)] for line in lines]) if late else values
    if not values.size:
        return None
    low, high = values.min(), values.max()
    cut = low - 0.08 * (high - low)
    return float(cut) if everything.min() < low - 0.6 * (high - low) else None


def _shade(axes: Axes, x: np.ndarray, stages: np.ndarray) -> None:
    starts = [0, *(np.flatnonzero(stages[1:] != stages[:-1]) + 1)]
    if len(starts) < 2:
        return
    edges = [x[0], *((x[start - 1] + x[start]) / 2 for start in starts[1:]), x[-1]]
    for number, (start, left, right) in enumerate(zip(starts, edges, edges[1:], strict=False)):
        if number % 2 == 0:
            axes.axvspan(left, right, color="#e0e7ef", alpha=0.7, zorder=0, linewidth=0)
        name = str(stages[start])
        place = {"transform": axes.get_xaxis_transform(), "va": "bottom", "ha": "center", "fontsize": 10}
        text = "".join(letter if " " <= letter <= "~" else "?" for letter in name[:20])
        axes.text((left + right) / 2, 1.01, text, color=GRAY, parse_math=False, **place)


def _legend_above(figure: Figure) -> None:
    """Side by side over the axes, where nothing is drawn."""
    figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, columnspacing=1.4, borderaxespad=0.2)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers; between the powers of ten too, where it spans few of them."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(lambda value, _: _plain(value, _) if np.ptp(np.log10(axes.get_ylim())) < 2 else "")


def _plain(value: float, _: float = 0) -> str:
    return f"{value:g}" if 1e-4 <= value < 1e5 else f"$10^{{{round(np.log10(value))}}}$"


def _bins(samples: Mapping[str, np.ndarray]) -> int:
    """Edges of the bins: about twice the root of the number of data, at most 41."""
    return 1 + max(8, min(40, int(2 * max((len(values) for values in samples.values()), default=0) ** 0.5)))


def histograms(samples: Mapping[str, np.ndarray], xlabel: str, limit: float | None = None) -> Figure:
    """Overlaid histograms (n,) with common bins, NaN left out; a dashed line marks each mean, or the limit if any."""
    figure = canvas()
    axes = figure.subplots()
    finite = {name: values[np.isfinite(values)] for name, values in samples.items()}
    low, high = histogram_range(list(finite.values()))
    if limit is not None:
        low, high = min(low, limit - 0.3), max(high, limit + 0.1)
    bins = np.linspace(low, high, _bins(finite)).tolist()
    for (name, values), color in zip(finite.items(), _COLORS, strict=False):
        kept = values[(values >= low) & (values <= high)]
        axes.hist(kept, bins, color=color, alpha=0.2)
        axes.hist(kept, bins, color=color, histtype="step", linewidth=1.5)
        axes.plot([], color=color, label=name)
        if limit is None and values.size:
            axes.axvline(values.mean(), color=color, linestyle="--", linewidth=1.2)
    if limit is not None:
        axes.axvline(limit, color=RED, linestyle="--", linewidth=1.2, label=f"limit {limit:g}")
    axes.set(xlabel=xlabel, ylabel="number of data")
    _legend_above(figure)
    return figure


def histogram_range(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """The range of a histogram: everything, unless single values would stretch it to more than twice its bulk."""
    values = np.concatenate([*samples, np.array([])])
    if not values.size:
        return 0.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    reach = max(high - low, 1e-9 * max(1.0, abs(low)))
    low, high = max(values.min(), low - 0.5 * reach), min(values.max(), high + 0.5 * reach)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


def bars(
    values: np.ndarray, active: np.ndarray, order: np.ndarray, ylabel: str, threshold: float | None = None
) -> Figure:
    """A bar for each latent dimension (D,), from left to right by ``order``, those that are not active in gray.

    The scale is logarithmic where there is a threshold to mark.
    """
    figure = canvas()
    axes = figure.subplots()
    place = np.arange(len(values))
    if threshold is not None:
        _logarithmic(axes)
        axes.set_ylim(threshold / 30, max(3.0, 2 * values.max(initial=0.0)))
        axes.axhline(threshold, color=RED, linestyle="--", linewidth=1.2, zorder=3)
    for chosen, color, name in ((active, BLUE, "active"), (~active, "#aab2bd", "not active")):
        kept = chosen[order]
        if kept.any():
            axes.bar(place[kept], values[order][kept], color=color, width=0.85, label=name)
    if len(values) <= 20:
        axes.set_xticks(place, [f"z{dimension}" for dimension in order])
    else:
        axes.set_xticks([])
    axes.grid(axis="x", visible=False)
    axes.set(xlabel="latent dimension, sorted by KL", ylabel=ylabel)
    if not active.all():
        _legend_above(figure)
    return figure


def bands(traces: np.ndarray, ylabel: str, color: str = BLUE) -> Figure:
    """Median and 10-90% band over the data of traces (steps, n), on a logarithmic scale.

    Zeros and negative values are lifted to the smallest positive one.
    """
    figure = canvas()
    axes = figure.subplots()
    positive = traces[np.isfinite(traces) & (traces > 0)]
    lowest = positive.min() if positive.size else 1e-12
    lifted = np.where(np.isfinite(traces), np.maximum(traces, lowest), np.nan)
    low, median, high = np.nanquantile(lifted, [0.1, 0.5, 0.9], axis=1)
    steps = np.arange(len(traces))
    axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0, label="10–90% of the data")
    axes.plot(steps, median, color=color, marker="o", markersize=4, label="median")
    _logarithmic(axes)
    if len(steps) <= 15:
        axes.set_xticks(steps)
    axes.set(xlabel="step of the search (0 = encoder)", ylabel=ylabel)
    _legend_above(figure)
    return figure
