"""Tables whose columns have names, whatever holds them: data frames, records, matrices, text files."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from curvae.data.errors import DataError
from curvae.data.formats.arrow import ParquetTable
from curvae.data.formats.astronomy import of_astropy
from curvae.data.formats.cells import dense
from curvae.data.formats.file_content import Joined, NamedMatrix
from curvae.data.schema import DTYPES
from curvae.data.tables.frames import FrameColumns, in_memory, is_frame
from curvae.data.tables.parquet import ParquetColumns
from curvae.data.text.table import TextTable
from curvae.data.validation import numeric


@runtime_checkable
class Columnar(Protocol):
    """A table of named columns; places count them from 0."""

    @property
    def what(self) -> str:
        """How messages name it."""
        ...

    @property
    def header(self) -> list[str]: ...

    @property
    def named(self) -> bool:
        """Whether the names are the user's; else they are numbers."""
        ...

    def numbers(self, places: Sequence[int]) -> NDArray[Any]:
        """The columns at ``places``, ``(N, len(places))``, NaN where a value is missing."""
        ...

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        """One column ``(N,)`` as it is, numbers or words; where a text holds it, the words alone if asked for."""
        ...

    def dtype(self, place: int) -> str:
        """NumPy's name of the type that the numbers of a column come back in."""
        ...

    def in_words(self, place: int) -> bool:
        """Whether :meth:`values` of a column are words, or anything else than numbers."""
        ...

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        """Words of a column that the holder itself declares to be one of categories; None of all others."""
        ...


@dataclass(frozen=True)
class RecordColumns:
    """A structured array of NumPy, ``(N,)`` with a field for each column."""

    what: str
    records: NDArray[Any]

    @property
    def header(self) -> list[str]:
        return list(self.records.dtype.names or ())

    @property
    def named(self) -> bool:
        return True

    def numbers(self, places: Sequence[int]) -> NDArray[np.float64]:
        return np.stack([self._field(self.header[j]) for j in places], 1)

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        return self.records[self.header[place]]

    def dtype(self, place: int) -> str:
        return dtype_name(self.records.dtype[place])

    def in_words(self, place: int) -> bool:
        return self.records.dtype[place].kind not in "biuf"

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        return None

    def _field(self, name: str) -> NDArray[np.float64]:
        field = self.records[name]
        if field.ndim != 1:
            got = f"shape {field.shape[1:]} in field {name!r}"
            raise DataError(f"{self.what}: expected one number a field, got {got}; pass plain columns.")
        found = numeric(f"{self.what}: field {name!r}", field).astype(np.float64)
        return np.where(np.ma.getmaskarray(field), np.nan, found) if np.ma.isMaskedArray(field) else found


@dataclass(frozen=True, eq=False)
class MatrixColumns:
    """A matrix, sparse or dense, whose columns may have names; sparse ones become dense column by column, as asked."""

    what: str
    matrix: Any
    names: Sequence[str] | None = None

    @property
    def header(self) -> list[str]:
        return list(map(str, range(self.matrix.shape[1]) if self.names is None else self.names))

    @property
    def named(self) -> bool:
        return self.names is not None

    @cached_property
    def _by_column(self) -> Any:
        return self.matrix.tocsc() if hasattr(self.matrix, "tocsc") else self.matrix

    def numbers(self, places: Sequence[int]) -> NDArray[Any]:
        """The columns at ``places``; float32 where that holds the values of a sparse matrix exactly."""
        whole = list(places) == list(range(self.matrix.shape[1]))
        part = self.matrix if whole else self._by_column[:, list(places)]
        found = dense(self.what, part) if hasattr(part, "tocsc") else part
        return numeric(self.what, found)

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        return self.numbers([place])[:, 0]

    def dtype(self, place: int) -> str:
        return dtype_name(self.matrix.dtype)

    def in_words(self, place: int) -> bool:
        return False

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        return None


@dataclass(frozen=True)
class JoinedColumns:
    """The columns of a matrix, and behind them those of a frame, which are no features."""

    what: str
    values_alone: MatrixColumns
    beside: FrameColumns

    @property
    def header(self) -> list[str]:
        return [*self.values_alone.header, *self.beside.header]

    @property
    def named(self) -> bool:
        return self.values_alone.named

    def numbers(self, places: Sequence[int]) -> NDArray[Any]:
        if all(place < self._width for place in places):
            return self.values_alone.numbers(places)
        found = [part.numbers([at]) for part, at in map(self._at, places)]
        return np.concatenate(found, 1)

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        part, at = self._at(place)
        return part.values(at, words)

    def dtype(self, place: int) -> str:
        part, at = self._at(place)
        return part.dtype(at)

    def in_words(self, place: int) -> bool:
        part, at = self._at(place)
        return part.in_words(at)

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        part, at = self._at(place)
        return part.vocabulary(at)

    @cached_property
    def _width(self) -> int:
        return len(self.values_alone.header)

    def _at(self, place: int) -> tuple[MatrixColumns | FrameColumns, int]:
        """Which part a column is of, and where there."""
        return (self.values_alone, place) if place < self._width else (self.beside, place - self._width)


def names_beside(table: Columnar) -> list[str]:
    """Columns that are no features, whatever is said of them."""
    return table.beside.header if isinstance(table, JoinedColumns) else []


def columnar(what: str, x: Any) -> Columnar | None:
    """The named columns of what was handed over; None where it has none."""
    if isinstance(x, TextTable):
        return x
    if isinstance(x, ParquetTable):
        return ParquetColumns(what, x)
    if is_frame(x):
        return FrameColumns(what, in_memory(x))
    if isinstance(x, Joined):
        alone = x.values if isinstance(x.values, NamedMatrix) else NamedMatrix(x.values, None)
        return JoinedColumns(what, MatrixColumns(what, *alone), FrameColumns(what, x.beside))
    if isinstance(x, NamedMatrix):
        return MatrixColumns(what, *x)
    if hasattr(x, "tocsc"):
        return MatrixColumns(what, x.tocsr())
    if (astropy := sys.modules.get("astropy.table")) is not None and isinstance(x, astropy.Table):
        x = of_astropy(x).x
    if isinstance(x, np.ndarray) and x.dtype.names is not None:
        if x.ndim != 1:
            raise DataError(f"{what}: expected records of shape (N,), got {x.shape}; flatten them.")
        return RecordColumns(what, x)
    return None


def dtype_name(dtype: np.dtype[Any]) -> str:
    """NumPy's name of a type of numbers as they are kept: no byte order, nothing wider than float64."""
    return dtype.name if dtype.name in DTYPES else "float64"
