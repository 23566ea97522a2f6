"""Draws as pictures: one PNG with all of them, or a folder with a file for each; of sequences also a moving one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curvae.cli.errors import CommandError, UsageError
from curvae.cli.output import fresh
from curvae.io import atomic

if TYPE_CHECKING:
    from curvae.data import Schema

ACROSS = 8
"""Pictures in a row."""


def is_pictures(to: Path) -> bool:
    """Whether a name asks for pictures: a PNG, a GIF, or a folder, which has no suffix."""
    return to.suffix in (".png", ".gif", "")


@contextmanager
def fresh_pictures(to: Path, force: bool) -> Iterator[Path | None]:
    """A file or, where the name has no suffix, a folder to write into, put in its place at the end.

    Raises:
        CommandError: something is there already, or there is no folder to put it into.
    """
    if to.suffix:
        with fresh(to, force) as beside:
            yield beside
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CommandError(f"{to}: expected nothing there, got an existing one; name a new folder.")
    if not to.parent.is_dir():
        raise CommandError(f"{to}: expected an existing folder, got {to.parent}, which is none; make it first.")
    with atomic.new_folder(to) as (beside, _):
        yield beside


def write_pictures(target: Path | None, schema: "Schema", x: NDArray[Any]) -> None:
    """Draws ``(N, C, H, W)`` in own units as PNG, 8 bits a channel: black and white are 0 and 255, or the extremes.

    Raises:
        UsageError: they are no pictures.
    """
    from curvae.report.pictures import gray_range, shows_as_image, shows_as_movie, tiles
    from curvae.report.style import png_bytes

    assert target is not None
    if shows_as_movie(x):
        _write_movies(target, x)
        return
    if not shows_as_image(x) or target.suffix == ".gif":
        raise UsageError(f"--to: expected .npz or .csv for draws of shape {x.shape[1:]}, got a name of pictures.")
    low, high = (0.0, 255.0) if schema.dtype == "uint8" and schema.holder != "set" else gray_range(x)
    if not target.is_dir():
        target.write_bytes(png_bytes(tiles(x, min(ACROSS, len(x)), (low, high))))
        return
    from PIL import Image

    pixels = np.round(255 * np.clip((x.astype(np.float64) - low) / (high - low), 0, 1)).astype(np.uint8)
    for number, picture in enumerate(pixels.transpose(0, 2, 3, 1)):
        plain = picture[..., 0] if picture.shape[-1] == 1 else picture
        Image.fromarray(plain).save(target / f"sample-{number:0{len(str(len(x) - 1))}}.png")


def _write_movies(target: Path, x: NDArray[Any]) -> None:
    """Sequences ``(N, T, H, W)`` as strips in one PNG, or side by side in a GIF that moves."""
    from curvae.report.pictures import gray_range
    from curvae.report.roll_outs import frames_of_movies, strips_of
    from curvae.report.style import gif_bytes, png_bytes

    if target.is_dir():
        raise UsageError("--to: expected .gif, .png, .npz or .csv for sequences of pictures, got the name of a folder.")
    if target.suffix == ".gif":
        target.write_bytes(gif_bytes(frames_of_movies(x, gray_range(x), across=ACROSS)))
        return
    target.write_bytes(png_bytes(strips_of(x, gray_range(x))))
