"""The evaluation's files in a run folder: JSON and plain NumPy arrays, written whole or not at all, never pickled."""

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.values import plain

FORMAT = 1
"""Version of the files' layout."""
JSON, ARRAYS, PICTURES = "evaluation.json", "evaluation.npz", "pictures.npz"


def write(folder: Path, values: Mapping[str, Any], arrays: Mapping[str, NDArray], pictures: Mapping[str, NDArray]):
    """Write the three files; ``evaluation.json``, which says that the others are complete, comes last.

    Raises:
        OSError: the folder cannot be written; what stood there stays.
    """
    for name, part in {ARRAYS: arrays, PICTURES: pictures}.items():
        _replace(folder / name, lambda file, part=part: np.savez_compressed(file, allow_pickle=False, **part))
    write_json(folder / JSON, values)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write one file of plain values, with the version of its layout.

    Raises:
        OSError: it cannot be written; what stood there stays.
    """
    text = json.dumps({"format": FORMAT, **plain(values)}, indent=2, ensure_ascii=False, allow_nan=False)
    _replace(path, lambda file: file.write(text.encode()))


def read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """The evaluation's values and its arrays of each datum.

    Raises:
        FileNotFoundError: the run has not been evaluated.
        ValueError: a file is broken or of an unknown format.
    """
    for name in (JSON, ARRAYS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: run `curvae evaluate {folder}` first.")
    try:
        values = json.loads((folder / JSON).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{folder}: its evaluation cannot be read ({error}); evaluate it again.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{folder / JSON}: expected format {FORMAT}, got {found}; evaluate the run again.")
    return values, arrays


def _replace(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Fill a file beside ``path`` and put it in its place at once."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            fill(file)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
