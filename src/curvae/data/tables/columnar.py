"""Tables whose columns have names, whatever holds them: data frames, records, text files."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from curvae.data.errors import DataError
from curvae.data.schema import DTYPES
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

    def numbers(self, places: Sequence[int]) -> NDArray[np.float64]:
        """The columns at ``places``, ``(N, len(places))``, NaN where a value is missing."""
        ...

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        """One column ``(N,)`` as it is, numbers or words; where a text holds it, the words alone if asked for."""
        ...

    def dtype(self, place: int) -> str:
        """NumPy's name of the type that the numbers of a column come back in."""
        ...


@dataclass(frozen=True)
class FrameColumns:
    """A pandas frame."""

    what: str
    frame: Any

    @property
    def header(self) -> list[str]:
        return [named_as(name) for name in self.frame.columns]

    @property
    def named(self) -> bool:
        return not isinstance(self.frame.columns, sys.modules["pandas"].RangeIndex)

    def numbers(self, places: Sequence[int]) -> NDArray[np.float64]:
        header = self.header
        found = [_series(f"{self.what}: column {header[j]!r}", self.frame.iloc[:, j]) for j in places]
        return np.stack(found, 1) if found else np.empty((len(self.frame), 0))

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        return self.frame.iloc[:, place].to_numpy()

    def dtype(self, place: int) -> str:
        kind = getattr(self.frame.dtypes.iloc[place], "kind", "O")
        name = str(self.frame.dtypes.iloc[place]).lower()
        if kind == "b":
            return "bool"
        return name if kind in "iuf" and name in DTYPES else "int64" if kind in "iu" else "float64"


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

    def _field(self, name: str) -> NDArray[np.float64]:
        field = self.records[name]
        if field.ndim != 1:
            got = f"shape {field.shape[1:]} in field {name!r}"
            raise DataError(f"{self.what}: expected one number a field, got {got}; pass plain columns.")
        found = numeric(f"{self.what}: field {name!r}", field).astype(np.float64)
        return np.where(np.ma.getmaskarray(field), np.nan, found) if np.ma.isMaskedArray(field) else found


def columnar(what: str, x: Any) -> Columnar | None:
    """The named columns of what was handed over; None where it has none."""
    if isinstance(x, TextTable):
        return x
    if is_frame(x):
        return FrameColumns(what, x)
    if isinstance(x, np.ndarray) and x.dtype.names is not None:
        if x.ndim != 1:
            raise DataError(f"{what}: expected records of shape (N,), got {x.shape}; flatten them.")
        return RecordColumns(what, x)
    return None


def is_frame(x: Any) -> bool:
    """Whether ``x`` is a pandas frame; pandas is looked at only if the caller has imported it."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(x, pandas.DataFrame)


def named_as(name: Any) -> str:
    """The name of a frame's column in text; of several levels with points between them.

    >>> named_as("u"), named_as(3), named_as(("flux", "g"))
    ('u', '3', 'flux.g')
    """
    return ".".join(map(str, name)) if isinstance(name, tuple) else str(name)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """NumPy's name of a type of numbers as they are kept: no byte order, nothing wider than float64."""
    return dtype.name if dtype.name in DTYPES else "float64"


def _series(what: str, series: Any) -> NDArray[np.float64]:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "biuf":
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return numeric(what, series.to_numpy() if kind in "cMm" else series.to_numpy(dtype=object)).astype(np.float64)
