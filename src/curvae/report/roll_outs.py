"""The part of the page on sequences that go on from their first frames: strips and a moving picture, or lines."""

import numpy as np
from matplotlib.figure import Figure

from curvae.report import page, pictures, style
from curvae.report.page import PageSection
from curvae.report.snapshot import Snapshot

STRIPS, LINES, ELEMENTS = 4, 4, 3
"""Sequences that are shown as strips or as lines, and elements of a frame of which there are lines."""


def roll_out_sections(run: Snapshot) -> list[PageSection]:
    """Roll-outs below the originals; of a system that has none, nothing."""
    rolled, originals = run.pictures.get("rolled"), run.pictures.get("originals")
    if rolled is None or originals is None or not len(rolled):
        return []
    seen = int(run.pictures["frames_seen"][0])
    originals = originals[: len(rolled)]
    show = _as_movies if pictures.shows_as_movie(rolled) else _as_lines
    return [PageSection("roll-outs", "Roll-outs", show(originals, rolled, seen))]


def _as_movies(originals: np.ndarray, rolled: np.ndarray, seen: int) -> str:
    limits = pictures.gray_range(originals)
    strips = page.figure_tag(
        style.png_of(strips_of(originals[:STRIPS], limits, rolled[:STRIPS])),
        "Strips of frames, originals above roll-outs.",
        f"Each pair of strips shows an original sequence above its roll-out. The system sees the first {seen} frames; "
        "each later one is the mean of its frame along one draw of what follows.",
        "wide pixels",
    )
    moving = page.figure_tag(
        style.gif_of(frames_of_movies(originals, limits, rolled)),
        "The same sequences in motion, originals above roll-outs.",
        f"The same in motion, {len(rolled)} sequences side by side, over and over.",
        "pixels",
    )
    return strips + moving


def strips_of(movies: np.ndarray, limits: tuple[float, float], below: np.ndarray | None = None) -> np.ndarray:
    """One image of sequences (N, T, H, W): the frames of each side by side, and under them those of another."""
    count, steps = movies.shape[:2]
    single = [each.reshape(count * steps, 1, *each.shape[2:]) for each in (movies, below) if each is not None]
    return pictures.tiles(single[0], steps, limits, single[1] if below is not None else None)


def frames_of_movies(
    movies: np.ndarray, limits: tuple[float, float], below: np.ndarray | None = None, across: int = 8
) -> list[np.ndarray]:
    """One image for each time of sequences (N, T, H, W), side by side; under each that of another."""
    columns = min(across, len(movies))
    under = [None] * movies.shape[1] if below is None else [below[:, t, None] for t in range(movies.shape[1])]
    return [pictures.tiles(movies[:, t, None], columns, limits, each) for t, each in enumerate(under)]


def _as_lines(originals: np.ndarray, rolled: np.ndarray, seen: int) -> str:
    first, second = (each.reshape(*each.shape[:2], -1)[:LINES, :, :ELEMENTS] for each in (originals, rolled))
    caption = (
        f"Original sequences (gray) and their roll-outs (blue), {len(first)} of them, a row for each. The system sees "
        f"what is left of the dashed line, {seen} steps; each later value is the mean of its step along one draw of "
        "what follows."
    )
    return page.figure_tag(
        style.svg(_line_plot(first, second, seen)), "Lines of sequences and roll-outs.", caption, "wide"
    )


def _line_plot(originals: np.ndarray, rolled: np.ndarray, seen: int) -> Figure:
    """Panels (sequence, element) of (N, T, F)."""
    count, steps, size = originals.shape
    figure = style.canvas(3.0 * size + 1.0, 1.5 * count + 0.3)
    panels = figure.subplots(count, size, squeeze=False, sharex=True)
    for row in range(count):
        for element in range(size):
            axes = panels[row][element]
            axes.plot(range(1, steps + 1), originals[row, :, element], color=style.GRAY)
            axes.plot(range(seen, steps + 1), rolled[row, seen - 1 :, element], color=style.BLUE)
            axes.axvline(seen, color=style.GRAY, linewidth=0.8, linestyle="--")
    figure.supxlabel("step", fontsize=10)
    return figure
