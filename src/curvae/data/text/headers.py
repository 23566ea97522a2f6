"""Whether the first row of a table is names, or data: the odds of both, from many other rows."""

from collections.abc import Sequence
from itertools import pairwise
from math import log10

from curvae.data.text.numbers import form, parse_number

NAMES, DATA = 1.5, 0.5
"""Powers of ten of the odds: from 30 on the row is names, below 3 it is data, between them it is asked."""


def log_odds(first: Sequence[str], rows: Sequence[Sequence[str]], quoted: bool, others_quoted: float) -> float:
    """log10 of the odds that a row is names, not data as the rows below it.

    As data, each of its cells looks like others of its column with the frequency that these have (by Laplace's rule of
    succession), is no farther out than they are, and the row is no arithmetic progression unless others are. Names
    are words that do not recur in their column, seldom numbers, and differ from each other.

    Args:
        first: cells of the row in question.
        rows: of other rows.
        quoted: whether its cells stand in quotes.
        others_quoted: share of the other rows in which some do.

    >>> rows = [["0.5", "-1.25"], ["-0.25", "2.5"]] * 25
    >>> log_odds(["400", "450"], rows, False, 0.0) > NAMES
    True
    >>> log_odds(["0.1", "0.2"], rows, False, 0.0) < DATA
    True
    """
    columns = [[row[j] for row in rows] for j in range(len(first))]
    data = sum(_as_data(cell, column) for cell, column in zip(first, columns, strict=True))
    data += log10(_rule(_progresses(first), [_progresses(row) for row in rows]))
    if quoted:
        data += log10((others_quoted * len(rows) + 1) / (len(rows) + 2))
    return _as_names(first, columns) - data


def _as_data(cell: str, column: Sequence[str]) -> float:
    forms, kind = [form(each) for each in column], form(cell)
    if kind in ("word", "date") and kind in forms:
        seen = set(column)
        rare = sum(column.count(each) == 1 for each in seen) if len(seen) > 0.5 * len(column) else 1
        return log10(column.count(cell) + 1 if cell in seen else rare + 1) - log10(len(column) + 2)
    frequency = log10(_rule(kind, forms))
    values = [value for each in column if (value := _value(each)) is not None]
    mine = _value(cell)
    if mine is None or len(values) < 2:
        return frequency
    center = sorted(values)[len(values) // 2]
    reach = max(abs(value - center) for value in values)
    return frequency - (log10(len(values) + 2) if abs(mine - center) > 5 * reach else 0.0)


def _as_names(first: Sequence[str], columns: Sequence[Sequence[str]]) -> float:
    kinds = [form(cell) for cell in first]
    named = [cell.strip() for cell in first if cell.strip()]
    odds = -3.0 if len(set(named)) < len(named) else 0.0
    odds += sum(
        -1.7 for cell, kind, column in zip(first, kinds, columns, strict=True) if kind == "word" and cell in column
    )
    numbers = [cell for cell, kind in zip(first, kinds, strict=True) if kind in ("whole", "decimal")]
    if _progresses(numbers):
        return odds + log10(0.3)
    return odds + log10(0.3) * len(numbers) + log10(0.2) * max(0, kinds.count("missing") - 1)


def _rule(kind: object, kinds: Sequence[object]) -> float:
    return (kinds.count(kind) + 1) / (len(kinds) + 2)


def _progresses(cells: Sequence[str]) -> bool:
    """Whether its numbers are three or more, equally far from each other: wavelengths, years, 0, 1, 2."""
    values = [_value(cell) for cell in cells]
    numbers = [value for value in values if value is not None]
    steps = {round(b - a, 9) for a, b in pairwise(numbers)}
    return len(numbers) > 2 and len(steps) == 1 and 0.0 not in steps


def _value(cell: str) -> float | None:
    found = parse_number(cell)
    return parse_number(cell, ",") if found is None else found
