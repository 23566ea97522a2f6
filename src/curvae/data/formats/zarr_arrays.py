"""Chunked arrays by zarr: a folder or an archive of them, of which large ones stay where they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.errors import DataError
from curvae.data.formats.arrays import keys_of_data
from curvae.data.formats.cells import read_cells
from curvae.data.formats.file_content import NONE, Found, Hints
from curvae.data.formats.opening import imported, parsing_folder, require_room
from curvae.data.readers import as_data_errors
from curvae.data.stored import MOST_AT_RANDOM, BlockRows
from curvae.data.validation import to_tensor
from curvae.io.formats import check_size
from curvae.io.reading import Reading

BLOCK = 2**20
"""Bytes that are read at a time at least: of smaller chunks several."""
MARKS = ("zarr.json", ".zgroup", ".zarray")
"""Files that only a folder of zarr has."""


def is_zarr(folder: Path) -> bool:
    """Whether a folder holds an array of zarr, or a group of them."""
    return folder.suffix == ".zarr" or any((folder / name).is_file() for name in MARKS)


def read_zarr(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """An array of zarr, alone or in a group under ``key``, and labels where they are said or may be; or AnnData.

    Rows of an array of more than :data:`curvae.data.stored.MOST_AT_RANDOM` bytes are read as they are asked for.

    Raises:
        DataError: a broken folder or archive, no such key, arrays of Python objects, or zarr is not there.
    """
    with _opened(path) as store:
        if hasattr(store, "shape"):
            return Found(_values(path, store, bool(reading.transpose)))
        if store.attrs.get("encoding-type") == "anndata":
            return read_cells(path, imported(path, "anndata.io", "anndata"), store, reading, hints)
        arrays = dict(store.arrays())
        if not arrays:
            raise DataError(f"{path}: expected arrays in the group, got none; name the folder of one.")
        wanted, beside = keys_of_data(path, list(arrays), reading, hints)
        labels = _in_memory(path, arrays[beside]) if beside in arrays else None
        known = {name: _in_memory(path, arrays[name]) for name in hints.beside if name in arrays}
        return Found(_values(path, arrays[wanted], bool(reading.transpose or known)), labels, (), known)


class ZarrRows(BlockRows):
    """An array of zarr, some of its chunks (or shards) a block."""

    def __init__(self, path: Path, array: Any):
        one = int(np.prod(array.shape[1:])) * array.dtype.itemsize
        chunk = (getattr(array, "shards", None) or array.chunks)[0]
        size = chunk * max(1, -(-BLOCK // max(1, one * chunk)))
        whole, rest = divmod(array.shape[0], size)
        like = to_tensor(str(path), np.empty((0, *array.shape[1:]), array.dtype))
        super().__init__([size] * whole + [rest] * (rest > 0), array.shape[1:], like.dtype)
        self.path = path
        self.array = array

    def block(self, number: int) -> Tensor:
        start = int(self.edges[number])
        with parsing_folder(self.path, "an array of zarr"):
            found = self.array[start : start + int(self.counts[number])]
        return to_tensor(str(self.path), found, copy=False)


def _values(path: Path, array: Any, whole: bool) -> ZarrRows | NDArray[Any]:
    """An array in memory, or, unless it is wanted whole, its rows where these are too many."""
    large = int(np.prod(array.shape)) * array.dtype.itemsize > MOST_AT_RANDOM
    if whole or not large or array.dtype.kind not in "biuf" or len(array.shape) < 2:
        return _in_memory(path, array)
    _check_size(path, array)
    return ZarrRows(path, array)


def _check_size(path: Path, array: Any) -> None:
    """Refuse an array whose chunks, which need not be there, are too few for what it says that it holds."""
    with as_data_errors(path):
        check_size(path, int(np.prod(array.shape)) * array.dtype.itemsize, array.nbytes_stored())


def _in_memory(path: Path, array: Any) -> NDArray[Any]:
    _check_size(path, array)
    require_room(path, int(np.prod(array.shape)), array.dtype.itemsize)
    return np.asarray(array[...])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The array or group in a folder or a zip archive; whatever goes wrong with it is one line of ours."""
    zarr = imported(path, "zarr", "zarr")
    if zarr.__version__.startswith(("1.", "2.")):  # which unpickle where an array says so
        raise DataError(f"{path}: expected zarr 3 to read it, got {zarr.__version__}; run: pip install -U 'zarr>=3'.")
    if not path.exists():
        raise DataError(f"{path}: expected a file, got nothing there; check the path.")
    with parsing_folder(path, "a folder or archive of zarr"):
        store = path if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
        yield zarr.open(store, mode="r")
