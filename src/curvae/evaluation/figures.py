"""Figures into files, whole or not at all."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvae.io import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", path: str | PathLike[str], dpi: int = 150, **settings: Any) -> Path:
    """As PNG, SVG or PDF by the file's name, in the place of an older one.

    Raises:
        ValueError: matplotlib does not know the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic.replacing(Path(path)) as beside:
        figure.savefig(beside, dpi=dpi, **settings)
    return Path(path)
