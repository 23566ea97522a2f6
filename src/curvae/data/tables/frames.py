"""Data frames of any library as tables of named columns: pandas, polars and Arrow, all through narwhals."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data.errors import DataError
from curvae.data.schema import DTYPES, FrameKind
from curvae.data.text.numbers import is_number
from curvae.data.validation import MEND, numeric

PLAIN = (np.ndarray, torch.Tensor, list, tuple, str, int, float, dict)
"""Types that are no frames: narwhals need not be imported to know that."""
SPOKEN = {"Date": "dates", "Datetime": "dates", "Duration": "durations", "Time": "times of day", "Binary": "bytes"}
SPOKEN |= {"List": "lists", "Array": "arrays", "Struct": "structs"}
REMEDY = {"dates": f"{MEND['M']}", "durations": f"{MEND['m']}", "times of day": "pass them as hours or seconds"}
NESTED = "give each of its numbers a column of its own"


@dataclass(frozen=True)
class FrameColumns:
    """A data frame; implements :class:`curvae.data.tables.columnar.Columnar`."""

    what: str
    frame: Any
    """As it came: of pandas, polars, pyarrow, or what else narwhals knows."""

    @property
    def names(self) -> list[Any]:
        """Names of the columns as the frame has them."""
        return list(self.frame.column_names if hasattr(self.frame, "column_names") else self.frame.columns)

    @property
    def header(self) -> list[str]:
        return list(map(named_as, self.names))

    @property
    def named(self) -> bool:
        """Whether the names are the user's; those of pandas count from 0 where nothing else was said."""
        pandas = sys.modules.get("pandas")
        return pandas is None or not isinstance(getattr(self.frame, "columns", None), pandas.RangeIndex)

    def numbers(self, places: Sequence[int]) -> NDArray[np.float64]:
        """
        Raises:
            DataError: columns that are no numbers, all of them.
        """
        header, found, odd = self.header, [], []
        for j in places:
            try:
                found.append(_numbers(header[j], self._series(j)))
            except DataError as error:
                odd.append(str(error).rstrip("."))
        if odd:
            more = "" if len(odd) < 4 else f"; and {len(odd) - 3} columns more"
            raise DataError(f"{self.what}: {'; '.join(odd[:3])}{more}.")
        return np.stack(found, 1) if found else np.empty((len(self.frame), 0))

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        import narwhals.stable.v2 as nw

        series = self._series(place)
        if _coded(series):
            series = series.cast(nw.Float64() if _numbered(series) else nw.String())
        elif _type(series) in ("Int128", "UInt128") or series.dtype.is_decimal():
            series = series.cast(nw.Float64())
        return series.to_numpy()

    def in_words(self, place: int) -> bool:
        return self.values(place).dtype.kind not in "biuf"

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        """Words of a column that its type says to be one of categories: in the order of an Enum, else of letters."""
        series = self._series(place)
        if not _coded(series) or _numbered(series):
            return None
        return tuple(map(str, _ordered(series) or sorted(_distinct(series)))) or None

    def is_coded(self, place: int) -> bool:
        """Whether a column holds codes of categories."""
        return _coded(self._series(place))

    def is_plain(self, place: int) -> bool:
        """Whether a column is of numbers as computers have them."""
        dtype = self._series(place).dtype
        return str(dtype) == "Boolean" or (dtype.is_numeric() and not dtype.is_decimal())

    def dtype(self, place: int) -> str:
        dtype = self._series(place).dtype
        name = {"boolean": "bool"}.get(str(dtype).lower(), str(dtype).lower())
        return name if name in DTYPES else "int64" if dtype.is_integer() else "float64"

    def _series(self, place: int) -> Any:
        """One column, of narwhals; of pandas by its place, as its names may be any and come twice."""
        import narwhals.stable.v2 as nw

        if hasattr(self.frame, "iloc"):
            return nw.from_native(self.frame.iloc[:, place], series_only=True)
        column = self.frame.column(place) if hasattr(self.frame, "num_rows") else self.frame.to_series(place)
        return nw.from_native(column, series_only=True)


def is_frame(x: Any) -> bool:
    """Whether ``x`` is a data frame in memory: of pandas, polars, pyarrow, ...

    Raises:
        DataError: it is one that is yet to be read or computed.
    """
    if isinstance(x, PLAIN):
        return False
    import narwhals.stable.v2 as nw

    if nw.dependencies.is_into_lazyframe(x) and not nw.dependencies.is_into_dataframe(x):
        raise DataError(f"x: expected a frame in memory, got a lazy {type(x).__name__}; pass x.collect().")
    single = nw.dependencies.is_into_series(x)
    return nw.dependencies.is_into_dataframe(x) or (hasattr(x, "__arrow_c_stream__") and not single)


def in_memory(x: Any) -> Any:
    """A frame as one of a library that narwhals knows: batches of Arrow become a table, wrapped ones are unwrapped."""
    import narwhals.stable.v2 as nw

    if nw.dependencies.is_into_dataframe(x):
        return nw.to_native(x, pass_through=True)
    try:
        import pyarrow

        return pyarrow.table(x)
    except (ImportError, ValueError, TypeError) as error:
        name = type(x).__name__
        raise DataError(f"x: expected a frame of pandas, polars or pyarrow, got a {name} ({error}).") from None


def library_of(frame: Any) -> FrameKind:
    """The library of a frame, of those in which frames can come out again; of any other that of pandas."""
    root = type(frame).__module__.partition(".")[0]
    return cast(FrameKind, root) if root in ("polars", "pyarrow") else "pandas"


def framed(kind: FrameKind, columns: Mapping[Any, NDArray[Any]], index: Any = None) -> Any:
    """Columns as a frame: of polars or pyarrow where that is the kind and the library is there, else of pandas."""
    if kind != "pandas":
        try:
            __import__(kind)
        except ImportError:
            return framed("pandas", columns)
        import narwhals.stable.v2 as nw

        return nw.from_dict({str(name): _plain(values) for name, values in columns.items()}, backend=kind).to_native()
    import pandas

    return pandas.DataFrame(dict(columns), index=index)


def _plain(values: NDArray[Any]) -> Any:
    """Words as a list, which every library makes its own type of."""
    return values if values.dtype.kind in "biuf" else values.tolist()


def named_as(name: Any) -> str:
    """The name of a frame's column in text; of several levels with points between them.

    >>> named_as("u"), named_as(3), named_as(("flux", "g"))
    ('u', '3', 'flux.g')
    """
    return ".".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _type(series: Any) -> str:
    """The name that narwhals has for the type of a column."""
    return str(series.dtype).partition("(")[0]


def _coded(series: Any) -> bool:
    """Whether a column holds codes of categories."""
    return _type(series) in ("Categorical", "Enum")


def _numbered(series: Any) -> bool:
    """Whether its categories are numbers."""
    return not any(isinstance(word, str) for word in _distinct(series))


def _distinct(series: Any) -> list[Any]:
    return series.drop_nulls().unique().to_list()


def _ordered(series: Any) -> Sequence[Any]:
    """The categories of a column in the order that they are declared to have; none where there is none."""
    if _type(series) == "Enum":
        return series.dtype.categories
    if "pyarrow" not in sys.modules:
        return ()
    found = series.to_arrow()
    found = found.combine_chunks() if hasattr(found, "combine_chunks") else found
    return found.dictionary.to_pylist() if getattr(found.type, "ordered", False) else ()


def _numbers(name: str, series: Any) -> NDArray[np.float64]:
    """The numbers of a column, NaN where there is none."""
    import narwhals.stable.v2 as nw

    if (got := SPOKEN.get(_type(series))) is not None:
        raise DataError(
            f"column {name!r}: expected real numbers, got {got}; {REMEDY.get(got, NESTED)}, or say drop=[{name!r}]"
        )
    coded = _coded(series)
    exact = series.dtype.is_numeric() and not series.dtype.is_decimal()  # Arrow's own cast is off by a last digit
    if exact or series.dtype == nw.Boolean or (coded and _numbered(series)):
        return series.cast(nw.Float64()).to_numpy()
    if not coded and _type(series) != "String":
        return numeric(f"column {name!r}", series.to_numpy()).astype(np.float64)
    words = [str(word) for word in (series.cast(nw.String()) if coded else series).drop_nulls().to_list()]
    if not words:
        return np.full(len(series), np.nan)
    mend = "convert them to numbers" if all(map(is_number, words)) else f"say kind={{{name!r}: 'category'}}"
    got = f"column {name!r}: expected real numbers, got {words[0][:40]!r}"
    raise DataError(f"{got}; {mend}, make it the label, or say drop=[{name!r}]")
