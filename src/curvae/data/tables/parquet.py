"""Parquet files as tables of named columns: read column by column, and of large files row group by row group."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.formats.arrow import ParquetTable
from curvae.data.stored import MOST_AT_RANDOM, StoredRows, together
from curvae.data.tables.frames import FrameColumns

NARROW = ("float32", "float16", "int16", "int8", "uint16", "uint8", "bool")
"""Types whose numbers float32 holds exactly."""


@dataclass(frozen=True)
class ParquetColumns:
    """A Parquet file; implements :class:`curvae.data.tables.columnar.Columnar`."""

    what: str
    file: ParquetTable

    @property
    def header(self) -> list[str]:
        return self._types.header

    @property
    def named(self) -> bool:
        return True

    def numbers(self, places: Sequence[int]) -> NDArray[np.float64]:
        return self._frame(places).numbers(range(len(places)))

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        return self._frame([place]).values(0, words)

    def dtype(self, place: int) -> str:
        return self._types.dtype(place)

    def in_words(self, place: int) -> bool:
        return self._types.in_words(place)

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        return self._frame([place]).vocabulary(0) if self._types.is_coded(place) else None

    def left_in_file(self, places: Sequence[int]) -> StoredRows | None:
        """Columns of numbers that are too many to be held, as rows that are read as they are asked for; else None."""
        found = ParquetRows(self, places)
        plain = all(self._types.is_plain(place) for place in places)
        return StoredRows(found) if plain and found.nbytes > MOST_AT_RANDOM else None

    @property
    def _types(self) -> FrameColumns:
        return FrameColumns(self.what, self.file.empty)

    def _frame(self, places: Sequence[int]) -> FrameColumns:
        return FrameColumns(self.what, self.file.read(places))


class ParquetRows:
    """Columns of numbers in a Parquet file; implements :class:`curvae.data.stored.RowSource`.

    The row groups that were asked for last are kept, those of two windows.
    """

    def __init__(self, columns: ParquetColumns, places: Sequence[int]):
        self.columns = columns
        self.places = places
        narrow = all(columns.dtype(place) in NARROW for place in places)
        self._dtype = np.dtype(np.float32 if narrow else np.float64)
        self._edges = torch.tensor([0, *columns.file.counts[:-1]]).cumsum(0)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return self.columns.file.rows

    @property
    def nbytes(self) -> int:
        return len(self) * len(self.places) * self._dtype.itemsize

    @property
    def edges(self) -> Tensor:
        return self._edges

    def read(self, rows: Tensor | slice) -> Tensor:
        wanted = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows
        groups = torch.searchsorted(self.edges, wanted, right=True) - 1
        found = torch.empty(len(wanted), len(self.places), dtype=torch.float64)
        for group in groups.unique().tolist():
            here = groups == group
            found[here] = self._group(group)[wanted[here] - self.edges[group]].double()
        return found

    def _group(self, number: int) -> Tensor:
        """The numbers of a row group."""
        if number not in self._kept:
            file = self.columns.file
            frame = FrameColumns(self.columns.what, file.read(self.places, [number]))
            self._kept[number] = torch.from_numpy(
                frame.numbers(range(len(self.places))).astype(self._dtype, copy=False)
            )
            while len(self._kept) > 2 * together(self):
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def forget(self) -> None:
        """Those that were asked for last may be asked for again."""
