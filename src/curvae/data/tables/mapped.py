"""Rows that stay in their file: arrays that are mapped into memory from one, and how their values are looked at."""

import mmap
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.formats.zarr_arrays import ZarrRows
from curvae.data.stored import LEAST, Mask, StoredRows
from curvae.data.validation import check_stored, to_tensor

BLOCK = 2**20
"""Bytes that are read at a time."""


class MappedArray:
    """An array of NumPy on a file; implements :class:`curvae.data.stored.RowSource`."""

    def __init__(self, what: str, array: NDArray[Any]):
        self.what = what
        self.array = np.asarray(array)
        self._mapped = None if getattr(array, "mode", "c") == "c" else getattr(array, "_mmap", None)  # "c" has changes

    def __len__(self) -> int:
        return len(self.array)

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def edges(self) -> Tensor:
        return torch.arange(0, len(self), max(1, BLOCK * len(self) // self.nbytes))

    def read(self, rows: Tensor | slice) -> Tensor:
        return to_tensor(self.what, self.array[rows.numpy() if isinstance(rows, Tensor) else rows])

    def forget(self) -> None:
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


def left_in_file(what: str, x: Any) -> StoredRows | None:
    """The rows of a large array of numbers that is mapped from a file; None of all else, which goes into memory.

    So does an array of zarr that is too large for it.
    """
    if isinstance(x, ZarrRows):
        return StoredRows(x)
    mapped = isinstance(x, np.memmap) and x.dtype.kind in "biuf" and x.ndim > 1
    return StoredRows(MappedArray(what, x)) if mapped and x.size and x.nbytes >= LEAST else None


def rows_in_file(what: str, raw: StoredRows, missing: str, names: Sequence[str] | None) -> Rows:
    """Features and mask of rows that stay in their file, every one looked at; what is not observed is read as 0.

    Raises:
        DataError: a value is infinite, or missing where none may be.
    """
    if not check_stored(what, raw, missing, names):
        return Rows(raw).numbered()
    return Rows(raw.through(_filled), None, cast(Mask, raw.through(_is_there))).numbered()


def _filled(part: Tensor) -> Tensor:
    return torch.where(part.isnan(), 0, part)


def _is_there(part: Tensor) -> Tensor:
    return ~part.isnan()
