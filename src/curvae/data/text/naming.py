"""From the cells of a text table to its columns: names, row names, what is left out; and all of it in words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from curvae.data.dialect import NAMED, Decision, Dialect
from curvae.data.errors import DataError
from curvae.data.text.body import Plan
from curvae.data.text.cells import Column, Frame
from curvae.data.text.numbers import PLAIN

FEW = 3
"""Rows that a sum needs above it."""


class Named(NamedTuple):
    """The columns of a table."""

    frame: Frame
    header: list[str]
    places: list[int]
    named: bool
    row_names: str | None = None
    rows: list[str] | None = None
    """Names of the rows."""
    left_out: tuple[str, ...] = ()
    """What is in the file and is no row or column."""


def named_columns(plan: Plan, frame: Frame, told: Sequence[str], wanted: str | int | None) -> Named:
    """The columns by their names, without those that name rows and those that hold nothing and have no name.

    Raises:
        DataError: the column that is to name the rows is not there.
    """
    names = list(plan.layout.names or ())
    frame, total = _without_sums(frame)
    left_out = [*(["the last row, which sums up the others"] if total else []), *told]
    at = _row_names(plan, frame, names, wanted)
    empty = [j for j, name in enumerate(names) if not _said(name) and j != at and frame[j].isna().all()]
    left_out += ["a column without name and cells"] * len(empty)
    places = [j for j in range(plan.layout.width) if j != at and j not in empty]
    called = {j: name if _said(name) else "" for j, name in enumerate(names)}
    header = [called.get(j) or _number(j, names) for j in places]
    rows = None if at is None else frame[at].astype(str).tolist()
    row_names = None if at is None else called.get(at, str(at))
    return Named(frame, header, places, bool(names), row_names, rows, tuple(left_out))


def _said(name: str) -> bool:
    """Whether a column has a name: pandas calls those without one Unnamed."""
    return bool(name) and not name.startswith("Unnamed: ")


def _number(place: int, names: Sequence[str]) -> str:
    return str(place) if str(place) not in names else f"column {place}"


def _row_names(plan: Plan, frame: Frame, names: Sequence[str], wanted: str | int | None) -> int | None:
    """Where the names of the rows are: where they are said to be, or in a first column without a name of its own."""
    if wanted is not None:
        header = [name or str(j) for j, name in enumerate(names)] or list(map(str, range(plan.layout.width)))
        if str(wanted) not in header:
            got = f"{wanted!r}; give a name out of {', '.join(header[:20])}"
            raise DataError(f"{plan.what}: expected row_names to be a column, got {got}.")
        return header.index(str(wanted))
    if plan.layout.short:
        return 0
    if not names or _said(names[0]) or plan.layout.width < 2:
        return None
    return 0 if _numbers_rows(frame[0]) else None


def _numbers_rows(series: Column) -> bool:
    """Whether each value is there once, and is a word or a whole number."""
    if series.isna().any() or not series.is_unique:
        return False
    return getattr(series.dtype, "kind", "O") != "f"


def _without_sums(frame: Frame) -> tuple[Frame, bool]:
    """Without a last row that is the sum of those above it, in every column of numbers."""
    numbers = frame.select_dtypes("number")
    if len(frame) <= FEW or numbers.shape[1] < 2:
        return frame, False
    last = numbers.iloc[-1].to_numpy(dtype=np.float64)
    if not np.isfinite(last).sum() > 1 or not np.any(last):
        return frame, False
    sums = numbers.iloc[:-1].sum().to_numpy(dtype=np.float64)
    close = np.isclose(last, sums, rtol=1e-9, atol=0) | np.isnan(last)
    return (frame.iloc[:-1], True) if close.all() and len(set(sums.tolist())) > 1 else (frame, False)


def transposed(named: Named) -> Named:
    """Rows as columns."""
    body = named.frame[named.places].T.reset_index(drop=True)
    if all(getattr(dtype, "kind", "O") in "iuf" for dtype in named.frame[named.places].dtypes):
        body = body.copy()
    else:
        body = body.astype(object)
    header = named.rows or list(map(str, range(body.shape[1])))
    body.columns = range(body.shape[1])
    rows = named.header if named.named else None
    return Named(body, header, list(range(len(header))), named.rows is not None, named.row_names, rows, named.left_out)


def dialect_of(plan: Plan, named: Named, transpose: bool) -> Dialect:
    """How the table was read."""
    layout = plan.layout
    return Dialect(
        plan.by.delimiter,
        plan.by.quote,
        "," if plan.decimal == "," else ".",
        layout.header,
        bool(layout.units),
        named.row_names,
        transpose,
        plan.missing,
    )


def decisions(plan: Plan, named: Named, dialect: Dialect) -> tuple[Decision, ...]:
    """What was decided, in words, with how it is changed."""
    layout = plan.layout
    found = [
        Decision("letters", plan.text.encoding, "save the file as UTF-8"),
        Decision("between cells", NAMED.get(dialect.delimiter, repr(dialect.delimiter)), "a first line sep=; says it"),
        Decision("decimals", "comma" if dialect.decimal == "," else "point", "decimal=',' or decimal='.'"),
        Decision("names", _names(dialect), "header=True or header=False"),
    ]
    if layout.above:
        found.append(Decision("above the names", f"{layout.above} lines, left out", "delete them"))
    if layout.units:
        found.append(Decision("units", ", ".join(layout.units[:20]), "kept here; values are as in the file"))
    if named.rows is not None and not dialect.transpose:
        called = f"column {dialect.row_names!r}" if dialect.row_names else "the first column, which has no name"
        found.append(Decision("row names", called, "row_names='...'; give it a name to make it a feature"))
    if dialect.transpose:
        found.append(Decision("turned", "rows of the file are columns", "transpose=False"))
    if dialect.missing:
        found.append(Decision("also missing", ", ".join(dialect.missing), "missing_value=[...]"))
    found += [
        Decision("left out", each, "delete it, or add a row below it that is kept") for each in named.left_out[:5]
    ]
    return tuple(found)


def _names(dialect: Dialect) -> str:
    if dialect.header == -1:
        return "in a comment above the rows"
    rows = "the first row" if dialect.header == 1 else f"the first {dialect.header} rows, joined by points"
    return rows if dialect.header else "none; columns are called 0, 1, ..."


def looks_turned(shape: tuple[int, int], rows: Sequence[Any] | None) -> bool:
    """Whether a table has many more columns than rows, and its rows have names: genes by cells."""
    return rows is not None and shape[1] > 2 * shape[0] and not all(PLAIN["."].match(str(row)) for row in rows)
