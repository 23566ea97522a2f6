"""Tables in text files: comma, semicolon or tab separated, with or without a header."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curvae.data.errors import DataError
from curvae.data.readers import read_bytes

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""Cells that stand for a missing value, in lower case."""


class TextTable(NamedTuple):
    """The cells of a text file, every row as wide as the header."""

    path: Path
    header: list[str]
    """Names of the columns; ``0, 1, ...`` where the file has none."""
    rows: list[list[str]]
    lines: list[int]
    """Line of the file on which each row ends."""
    named: bool
    """Whether the file has names."""

    @property
    def what(self) -> str:
        """The file, for messages."""
        return str(self.path)

    def numbers(self, places: Sequence[int]) -> np.ndarray:
        """The columns at ``places`` as float64 ``(N, len(places))``, NaN where a cell is missing.

        Raises:
            DataError: a cell is text.
        """
        try:
            return np.array([[_number(row[j]) for j in places] for row in self.rows], dtype=np.float64)
        except ValueError:
            i, j = next((i, j) for i, row in enumerate(self.rows) for j in places if _is_text(row[j]))
        place = f"line {self.lines[i]}, column {self.header[j]!r}"
        mend = "leave the column out with columns=[...] or make it the label"
        raise DataError(f"{self.path}: expected numbers, got {self.rows[i][j]!r} in {place}; {mend}.")

    def values(self, place: int, words: bool = False) -> np.ndarray:
        """One column ``(N,)``: numbers if all its cells are and ``words`` are not asked for, else text."""
        cells = [row[place].strip() for row in self.rows]
        return np.array(cells if words or any(map(_is_text, cells)) else [_number(cell) for cell in cells])

    def dtype(self, place: int) -> str:
        """``int64`` where every number of a column is written without a point, else ``float64``."""
        whole = all(_is_missing(cell) or _is_whole(cell) for cell in (row[place] for row in self.rows))
        return "int64" if whole else "float64"


def read_text(path: Path, header: bool | None = None) -> TextTable:
    """Read a text table; by default the first row is a header if all its cells are text.

    Raises:
        DataError: the file is empty, is not text, or has rows of different widths.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected text in UTF-8, got other bytes; save it as UTF-8.") from None
    reader = csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(text))
    try:
        numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}: expected a table, got {error} in line {reader.line_num}; mend that line.") from None
    if not numbered:
        raise DataError(f"{path}: expected a table, got an empty file.")
    width = len(numbered[0][1])
    if odd := next(((line, len(row)) for line, row in numbered if len(row) != width), None):
        raise DataError(f"{path}: expected {width} cells a row as in the first, got {odd[1]} in line {odd[0]}.")
    named = all(map(_is_text, numbered[0][1])) if header is None else header
    names = [cell.strip() for cell in numbered[0][1]] if named else [str(j) for j in range(width)]
    lines, rows = [line for line, _ in numbered[named:]], [row for _, row in numbered[named:]]
    if not rows:
        raise DataError(f"{path}: expected rows below the header, got none; pass header=False if it is data.")
    return TextTable(path, names, rows, lines, named)


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=first.count)


def _number(cell: str) -> float:
    return np.nan if _is_missing(cell) else float(cell)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _is_whole(cell: str) -> bool:
    return cell.strip().lstrip("+-").isdecimal()


def _is_text(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return True
    return False
