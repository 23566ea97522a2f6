"""Columns of words as features: codes by a vocabulary that belongs to the run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.data.errors import DataError
from curvae.data.schema import Column
from curvae.data.stored import StoredRows
from curvae.data.tables.columnar import Columnar
from curvae.data.tables.labels import missing, words
from curvae.data.tables.parquet import ParquetColumns
from curvae.data.text.numbers import form

MOST = 30
"""Words of a column that nothing is said of, if they are to be categories; each must stand there five times or more."""


def column_numbers(
    table: Columnar, places: Sequence[int], columns: Sequence[Column]
) -> tuple[NDArray[Any] | StoredRows, list[Column]]:
    """The columns at ``places``: numbers, and codes of those that are categories of words.

    Raises:
        DataError: a word that is none of the vocabulary of its column, or stands in a column of numbers.
    """
    coded = {j for j, column in enumerate(columns) if _has_words(table, places[j], column)}
    if not coded:
        left = table.left_in_file(places) if isinstance(table, ParquetColumns) else None
        return table.numbers(places) if left is None else left, list(columns)
    plain = table.numbers([place for j, place in enumerate(places) if j not in coded])
    found, known, numbers = np.empty((len(plain), len(places))), list(columns), iter(plain.T)
    for j, column in enumerate(columns):
        if j in coded:
            found[:, j], known[j] = word_codes(table, places[j], column)
        else:
            found[:, j] = next(numbers)
    return found, known


def _has_words(table: Columnar, place: int, column: Column) -> bool:
    if column.kind == "ordinal":
        return column.vocabulary is not None
    if column.kind == "category":
        return column.vocabulary is not None or table.in_words(place)
    return column.kind == "real" and table.in_words(place) and is_categorical_text(table, place)


def is_categorical_text(table: Columnar, place: int) -> bool:
    """Whether a column that nothing is said of is one of categories: words alone, each of them again and again."""
    told = words(table.values(place, words=True))
    told = told[~(missing(told) | _is_marker(told))]
    found = set(told.tolist())
    if not 2 <= len(found) <= min(MOST, len(told) // 5):
        return False
    if any(_is_number(word) or form(word) == "date" for word in found):
        return False
    try:
        table.numbers([place])
    except DataError:
        return True
    return False  # TRUE and FALSE, shares in %: numbers in other words


def _is_number(word: str) -> bool:
    try:
        return float(word) is not None
    except ValueError:
        return False


def _is_marker(told: NDArray[Any]) -> NDArray[np.bool_]:
    return np.array([each.lower() in ("na", "nan", "?") for each in told], dtype=bool)


def word_codes(table: Columnar, place: int, column: Column) -> tuple[NDArray[np.float64], Column]:
    """Codes of words, NaN where there is none."""
    told = words(table.values(place, words=True))
    empty = missing(told) | _is_marker(told)
    vocabulary = column.vocabulary or tuple(sorted(set(told[~empty].tolist())))
    codes = {word: float(code) for code, word in enumerate(vocabulary)}
    found = np.array([codes.get(word, np.nan) for word in told.tolist()])
    if (unknown := np.isnan(found) & ~empty).any():
        got = f"{str(told[unknown][0])!r} in row {int(unknown.argmax())}, column {column.name!r}"
        raise DataError(f"{table.what}: expected one of {', '.join(vocabulary[:20])}, as in the run, got {got}.")
    return found, replace(column, kind="category", vocabulary=vocabulary, dtype="int64")
