"""Folders of pictures, by Pillow: every PNG and JPEG in a folder, sub-folders as labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.data.dialect import Decision
from curvae.data.errors import DataError
from curvae.data.formats.file_content import NONE, Found, Hints
from curvae.data.formats.opening import imported, parsed, require_room
from curvae.io.reading import Reading

SUFFIXES = (".png", ".jpg", ".jpeg")
GRAY, COLOR, DEEP = "L", "RGB", "I;16"
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
"""Names of folders that are parts of a data set, not labels."""
DEEPEST = 65535


class Outline(NamedTuple):
    """What a file says of its picture before it is read: height, width, and letters, gray or color."""

    size: tuple[int, int]
    mode: str


def read_folder(folder: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """All pictures of a folder, ``(N, H, W)`` or ``(N, H, W, 3)``, and the sub-folders that they are in.

    Raises:
        DataError: no pictures, pictures of several sizes, some of them in sub-folders and some not, transparent ones, a
            broken file, no room, or Pillow is not there.
    """
    image = imported(folder, "PIL.Image", "images")
    files, others = _files(folder)
    labels = _labels(folder, files)
    seen = [_looked_at(image, file) for file in files]
    _check_sizes(files, [each.size for each in seen])
    modes = {each.mode for each in seen}
    if DEEP in modes and len(modes) > 1:
        odd = next(file for file, each in zip(files, seen, strict=True) if each.mode != DEEP)
        raise DataError(f"{folder}: expected all pictures in 16 bits as some are, got others in 8 ({odd.name}).")
    mode = DEEP if DEEP in modes else COLOR if COLOR in modes else GRAY
    height, width = seen[0].size
    require_room(folder, len(files) * height * width * (3 if mode == COLOR else 1), 4 if mode == DEEP else 1)
    x = np.stack([_pixels(image, file, mode) for file in files])
    return Found(x, labels, tuple(_decisions(mode, modes, others)))


def _decisions(mode: str, modes: set[str], others: Sequence[Path]) -> Iterator[Decision]:
    if len(modes) > 1:
        yield Decision("pixels", "color, as some pictures are; gray ones have it three times", "save all of them alike")
    if mode == DEEP:
        yield Decision("pixels", f"16-bit gray levels as shares of {DEEPEST:,}", "save them in 8 bits")
    if others:
        named = ", ".join(path.name for path in others[:5])
        yield Decision("left out", f"{len(others)} files that are no {' or '.join(SUFFIXES)}: {named}", "")


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures in the order of their names, and other files; what is hidden is passed over."""
    every = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    shown = [path for path in every if not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)]
    files = [path for path in shown if path.suffix.lower() in SUFFIXES]
    if not files:
        mend = f"expected pictures ({', '.join(SUFFIXES)}) in the folder, got none"
        raise DataError(f"{folder}: {mend}; name a folder of pictures, or a file.")
    return files, [path for path in shown if path.suffix.lower() not in SUFFIXES]


def _labels(folder: Path, files: Sequence[Path]) -> NDArray[Any] | None:
    """The sub-folder of each picture; None where all are in the folder itself."""
    words = [path.parent.relative_to(folder).as_posix() for path in files]
    if set(words) == {"."}:
        return None
    if "." in words:
        odd = files[words.index(".")].name
        raise DataError(f"{folder}: expected all pictures in sub-folders, whose names are labels, got {odd} in none.")
    first = {word.partition("/")[0] for word in words}
    if first and {word.lower() for word in first} <= PARTS:
        mend = f"name one of them, and another as test=: {folder / sorted(first)[0]}"
        raise DataError(f"{folder}: expected labels as names of sub-folders, got {', '.join(sorted(first))}; {mend}.")
    return np.array(words, dtype=object)


def _looked_at(image: Any, file: Path) -> Outline:
    with parsed(file, "a PNG or JPEG picture") as stream, image.open(stream, formats=("PNG", "JPEG")) as picture:
        width, height = _upright(picture.size, picture.getexif().get(274, 1))
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            _check_opaque(file, picture)
        return Outline((height, width), _mode(file, picture.mode))


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height as a picture is shown: cameras turn by a note."""
    return (size[1], size[0]) if orientation >= 5 else size


def _mode(file: Path, mode: str) -> str:
    """How the pixels of a picture are taken."""
    known = {"1": GRAY, "L": GRAY, "LA": GRAY, "P": COLOR, "PA": COLOR, "RGB": COLOR, "RGBA": COLOR, "CMYK": COLOR}
    known |= dict.fromkeys(("I;16", "I;16B", "I"), DEEP) | {"YCbCr": COLOR}
    if mode not in known:
        raise DataError(f"{file}: expected a gray or color picture, got one in {mode}; save it as PNG in RGB.")
    return known[mode]


def _check_opaque(file: Path, picture: Any) -> None:
    if picture.convert("RGBA").getextrema()[3][0] < 255:
        raise DataError(f"{file}: expected a picture without transparency, got some; save it on a background.")


def _check_sizes(files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> None:
    """Refuse pictures of several sizes: the most common one is named, and the first that is not of it."""
    usual = max(set(sizes), key=sizes.count)
    odd = [file for file, size in zip(files, sizes, strict=True) if size != usual]
    if odd:
        height, width = sizes[files.index(odd[0])]
        got = f"{len(odd)} of {len(files):,} of others, the first {width} x {height} ({odd[0].name})"
        raise DataError(
            f"{odd[0].parent}: expected pictures of one size, {usual[1]} x {usual[0]} as most are, got {got}; "
            "resize them, or move them elsewhere."
        )


def _pixels(image: Any, file: Path, mode: str) -> NDArray[Any]:
    from PIL import ImageOps

    with parsed(file, "a PNG or JPEG picture") as stream, image.open(stream, formats=("PNG", "JPEG")) as picture:
        upright = ImageOps.exif_transpose(picture)
        if mode == DEEP:
            return np.asarray(upright, dtype=np.float32) / np.float32(DEEPEST)
        return np.asarray(upright.convert(mode))
