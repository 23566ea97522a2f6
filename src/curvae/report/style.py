"""How every figure looks, and how it gets into the page: as a data URI, so that nothing is fetched."""

import base64
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

BLUE, ORANGE, GREEN, RED, GRAY = "#0072b2", "#d55e00", "#009e73", "#a3123b", "#6b7280"
"""From the palette of Okabe and Ito, which most color-blind readers can tell apart."""

LABELS = ("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#44aa99", "#882255", "#999933", "#aa4499", "#222222")
"""Ten colors for labels: the 'muted' palette of Paul Tol and a near-black; always drawn with a marker of their own."""
MARKERS = "osD^vPX<>*"

_RC = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#1f2937",
    "text.color": "#1f2937",
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "axes.formatter.useoffset": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "curvae",
}


def use_report_style() -> AbstractContextManager[None]:
    """Matplotlib's defaults and our settings, whatever the user's own settings are."""
    return matplotlib.style.context(["default", _RC])


def canvas(width: float = 5.0, height: float = 3.2) -> Figure:
    """An empty figure. At 5 inches its text is still read on a phone, where it is drawn 350 pixels wide."""
    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure) -> str:
    """The figure as vector graphics, the same bytes for the same data."""
    return _uri("svg+xml", _saved(figure, format="svg", metadata={"Date": None}))


def png(figure: Figure, dpi: int = 180) -> str:
    """The figure as pixels: for many points and for matrices."""
    return _uri("png", _saved(figure, format="png", dpi=dpi, metadata={"Software": None}))


def png_of(image: np.ndarray) -> str:
    """An image (height, width, 3) with values in [0, 1], pixel for pixel."""
    return _uri("png", png_bytes(image))


def png_bytes(image: np.ndarray) -> bytes:
    """The same as the content of a file."""
    stream = io.BytesIO()
    imsave(stream, (np.clip(image, 0, 1) * 255).round().astype(np.uint8), format="png")
    return stream.getvalue()


def gif_of(frames: Sequence[np.ndarray], milliseconds: int = 150) -> str:
    """Images (height, width, 3) with values in [0, 1], one after the other."""
    return _uri("gif", gif_bytes(frames, milliseconds))


def gif_bytes(frames: Sequence[np.ndarray], milliseconds: int = 150) -> bytes:
    """The same as the content of a file; it starts again at its end."""
    from PIL import Image  # which matplotlib needs, too

    stream = io.BytesIO()
    pages = [Image.fromarray((255 * np.clip(frame, 0, 1)).round().astype(np.uint8)) for frame in frames]
    pages[0].save(stream, "GIF", save_all=True, append_images=pages[1:], duration=milliseconds, loop=0)
    return stream.getvalue()


def _saved(figure: Figure, **settings: object) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, **settings)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
