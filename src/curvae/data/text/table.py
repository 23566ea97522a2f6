"""A text table: what its columns are called, and what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.data.dialect import Decision, Dialect
from curvae.data.errors import DataError
from curvae.data.text import numbers
from curvae.data.text.body import Plan, frame_of, line_of
from curvae.data.text.cells import Column, Frame, Numbers, numbers_of
from curvae.data.text.decimals import decided_again, decimal_of, has_numbers
from curvae.data.text.delimiters import Separators, sampled, separators
from curvae.data.text.encoding import Utf8, as_utf8
from curvae.data.text.layout import Expected, declared, laid_out
from curvae.data.text.naming import decisions, dialect_of, named_columns, transposed
from curvae.io.reading import Reading

AS_FOUND = Reading()
BLOCK, FIRST = 4096, 2**22


@dataclass(frozen=True, eq=False)
class TextTable:
    """The cells of a text file; implements :class:`curvae.data.tables.columnar.Columnar`."""

    plan: Plan
    frame: Frame
    """The rows, columns called by their places in the file."""
    header: list[str]
    """Names of the columns; ``0, 1, ...`` where the file has none."""
    places: list[int]
    """Where in the file they are."""
    named: bool
    """Whether the file has names."""
    dialect: Dialect
    decisions: tuple[Decision, ...] = ()
    row_names: list[str] | None = None

    @property
    def what(self) -> str:
        """The file, for messages."""
        return self.plan.what

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def _kept(self) -> dict[int, Numbers]:
        return {}

    def column(self, place: int) -> Numbers:
        """The numbers of a column, and what in it is none."""
        if place not in self._kept:
            series = self.frame[self.places[place]]
            found = numbers_of(series, self.dialect.decimal, self.dialect.missing)
            if self._may_be_whole(series, found):
                found = replace(
                    found, dtype=numbers_of(self._raw(place), self.dialect.decimal, self.plan.missing).dtype
                )
            self._kept[place] = found
        return self._kept[place]

    def _may_be_whole(self, series: Column, found: Numbers) -> bool:
        """Whether pandas has made fractions of whole numbers, for want of a missing one."""
        if getattr(series.dtype, "kind", "O") != "f" or not series.hasnans:
            return False
        seen = found.values[~np.isnan(found.values)]
        return bool((seen == np.floor(seen)).all())

    def numbers(self, places: Sequence[int]) -> NDArray[np.float64]:
        """The columns at ``places`` as float64 ``(N, len(places))``, NaN where a cell is missing.

        Raises:
            DataError: cells that are no numbers, of every column.
        """
        columns = [self.column(place) for place in places]
        pairs = zip(places, columns, strict=True)
        odd = [self._complaint(place, column) for place, column in pairs if column.wrong is not None]
        if odd:
            more = "" if len(odd) == 1 else f"; curvae data {self.what} tells of all columns"
            raise DataError(f"{self.what}: expected numbers, {'; '.join(odd)}{more}.")
        return side_by_side([column.values for column in columns], len(self.frame))

    def _complaint(self, place: int, column: Numbers) -> str:
        assert column.wrong is not None
        row, count = int(column.wrong.argmax()), int(column.wrong.sum())
        cell = str(self.frame[self.places[place]].iloc[row]).strip()
        more = f" (and {count - 1:,} cells more)" if count > 1 else ""
        where = f"line {line_of(self.plan, row)}" if not self.dialect.transpose else f"row {row}"
        name = self.header[place]
        return f"got {cell[:40]!r} in {where}, column {name!r}; {remedy(name, cell, column)}{more}"

    def values(self, place: int, words: bool = False) -> NDArray[Any]:
        """One column ``(N,)``: numbers if all its cells are and ``words`` are not asked for, else text."""
        column = self.column(place)
        if words or column.wrong is not None or column.dtype == "bool":
            return self._raw(place).str.strip().to_numpy(dtype=np.str_)
        return column.values

    def dtype(self, place: int) -> str:
        """``int64`` where every number of a column is written without a point, else ``float64`` or ``bool``."""
        return self.column(place).dtype

    def in_words(self, place: int) -> bool:
        """Whether a cell of a column is no number."""
        return self.values(place).dtype.kind not in "biuf"

    def vocabulary(self, place: int) -> tuple[str, ...] | None:
        """None: a text says of no column that it is one of categories."""
        return None

    def _raw(self, place: int) -> Column:
        """A column as it is written."""
        if self.dialect.transpose:
            return self.frame[self.places[place]].astype(str)
        at = self.places[place]
        return self.plan.read(dtype=str, na_filter=False, usecols=[at])[at].astype(object)


def side_by_side(columns: Sequence[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Columns as one array ``(N, columns)``, by blocks of rows that the processor's cache holds."""
    found = np.empty((count, len(columns)))
    for start in range(0, count, BLOCK):
        for j, column in enumerate(columns):
            found[start : start + BLOCK, j] = column[start : start + BLOCK]
    return found


def remedy(name: str, cell: str, column: Numbers) -> str:
    """What to do about a cell that is no number."""
    if numbers.form(cell) == "date":
        return f"dates: leave the column out with drop=[{name!r}], or write days or seconds since a date"
    if column.unit and numbers.is_number(cell):
        return f"other cells have {column.unit!r}: write it at all of them or at none"
    if column.are_numbers:
        return f"mend the cell, or say missing_value=[{cell[:40]!r}]"
    return f"leave the column out with drop=[{name!r}], make it the label, or say kind={{{name!r}: 'category'}}"


def read_text(
    path: Path, reading: Reading = AS_FOUND, prior: Dialect | None = None, known: Sequence[str] = ()
) -> TextTable:
    """Read a text table of any dialect.

    Args:
        path: the file, plain or compressed.
        reading: what is said of it.
        prior: how a table like it was read, where the file leaves something open.
        known: names of columns that are expected.

    Raises:
        DataError: the file is empty, is not text, has rows of different widths, or may be read in two ways.
    """
    try:
        return text_table(as_utf8(path, FIRST), reading, prior, known)
    except UnicodeDecodeError:  # of letters beyond the first bytes
        return text_table(as_utf8(path), reading, prior, known)


def text_table(
    text: Utf8, reading: Reading = AS_FOUND, prior: Dialect | None = None, known: Sequence[str] = ()
) -> TextTable:
    """The table in a text that was opened, or made of cells; see :func:`read_text`."""
    plan, frame, told = frame_of(_planned(text, reading, prior, known))
    plan, frame = decided_again(plan, frame, reading, prior)
    wanted = reading.row_names
    if wanted is None and prior is not None and prior.row_names in (plan.layout.names or ()):
        wanted = prior.row_names or None
    named = named_columns(plan, frame, told, wanted)
    turned = reading.transpose if reading.transpose is not None else prior is not None and prior.transpose
    dialect = dialect_of(plan, named, turned)
    named = transposed(named) if turned else named
    made = decisions(plan, named, dialect)
    return TextTable(plan, named.frame, named.header, named.places, named.named, dialect, made, named.rows)


def _planned(text: Utf8, reading: Reading, prior: Dialect | None, known: Sequence[str]) -> Plan:
    """What pandas has to know, from lines all over the file."""
    sample, what = sampled(text), str(text.path)
    said = text.delimiter or declared(sample)
    by = separators(sample, reading.decimal) if said is None else Separators(said)
    likely = None if prior is None else prior.header != 0
    layout = laid_out(what, sample, by, Expected(reading.header, frozenset(known), likely))
    missing = tuple(dict.fromkeys((*reading.markers, *(prior.missing if prior else ()))))
    columns = ([row[j] for row in layout.rows] for j in range(layout.width))
    decimal = decimal_of(what, numbers.decimal_evidence(filter(has_numbers, columns)), by, reading, prior)
    return Plan(what, text, by, decimal, layout, missing)
