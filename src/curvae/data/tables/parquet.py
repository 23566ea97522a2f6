"""Parquet files as tables of named columns: read column by column, and of large files row group by row group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.formats.arrow import ParquetTable
from curvae.data.stored import MOST_AT_RANDOM, BlockRows, StoredRows
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


class ParquetRows(BlockRows):
    """Columns of numbers in a Parquet file, a row group a block."""

    def __init__(self, columns: ParquetColumns, places: Sequence[int]):
        narrow = all(columns.dtype(place) in NARROW for place in places)
        super().__init__(columns.file.counts, [len(places)], torch.float32 if narrow else torch.float64, torch.float64)
        self.columns = columns
        self.places = places

    def block(self, number: int) -> Tensor:
        table = self.columns.file.read(self.places, [number])
        frame = FrameColumns(self.columns.what, table)
        found = torch.empty(len(table), len(self.places), dtype=self.dtype)
        for j, column in enumerate(table.columns):
            values = frame.numbers([j])[:, 0] if column.null_count else column.to_numpy()
            found[:, j] = torch.from_numpy(np.require(values, requirements="W"))
        return found
