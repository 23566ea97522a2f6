"""Long tables, a row for each step: a column says which sequence a row belongs to, and sequences come out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.data.errors import DataError
from curvae.data.schema import BESIDE, Column, LongTable
from curvae.data.tables.columnar import Columnar, columnar, names_beside
from curvae.data.tables.content import Content, listed_names, places_of, position_of
from curvae.io.reading import CONTEXT, Reading


class Sequences(NamedTuple):
    """The sequences of a long table, in the order in which they begin."""

    x: NDArray[np.float64]
    """(N, T, F), NaN behind the end of one that is shorter than T."""
    names: NDArray[Any]
    """(N,), what each is called in the column that says it."""
    labels: NDArray[Any] | None
    """(N,), of each sequence."""


def sequences_of(
    table: Columnar, known: LongTable, label: str | None = None, steps: int | None = None, holes: bool = True
) -> Sequences:
    """Rows of each sequence one after the other, in their order in the table; they need not stand together.

    Args:
        table: with a row for each step.
        known: which columns say what.
        label: the column of labels, one for all rows of a sequence.
        steps: T; by default the longest sequence's.
        holes: whether values may be missing before the end.

    Raises:
        DataError: no such column, a row without a sequence, one that is longer than T, labels that change within one,
            or a value that is missing.
    """
    what, header = table.what, table.header
    if lacking := [name for name in (known.column, *known.features) if name not in header]:
        raise DataError(f"{what}: expected the columns {listed_names(lacking)}, got {listed_names(header)}.")
    names, which = _numbered(table, header.index(known.column), known.column)
    counts = np.bincount(which, minlength=len(names))
    longest = int(counts.argmax())
    size = int(counts[longest]) if steps is None else steps
    if counts[longest] > size:
        got = f"got {counts[longest]:,} in {names[longest]!r}"
        raise DataError(f"{what}: expected sequences of at most {size:,} steps, as in the run, {got}.")
    order = np.argsort(which, kind="stable")
    step = np.empty(len(which), dtype=np.int64)
    step[order] = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = table.numbers([header.index(name) for name in known.features])
    if not holes and (gaps := np.argwhere(np.isnan(values))).size:
        row, place = gaps[0]
        raise DataError(
            f"{what}: expected a value in each row, got none in row {row}, column {known.features[place]!r}; "
            "missing='mask' leaves it out."
        )
    x = np.full((len(names), size, len(known.features)), np.nan)
    x[which, step] = values
    found = None if label is None or label not in header else table.values(header.index(label))
    return Sequences(x, names, None if found is None else _labels(what, found, which, names, str(label)))


def _numbered(table: Columnar, place: int, column: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Names of sequences as they come, and the number of that of each row."""
    codes: dict[Any, int] = {}
    values = table.values(place)
    which = np.empty(len(values), dtype=np.int64)
    for row, name in enumerate(values.tolist()):
        if name is None or name != name or (isinstance(name, str) and not name.strip()):
            raise DataError(f"{table.what}: expected a sequence for each row in {column!r}, got none in row {row}.")
        which[row] = codes.setdefault(name, len(codes))
    if not codes:
        raise DataError(f"{table.what}: expected rows of data, got none.")
    return np.array(list(codes), dtype=None if values.dtype.kind in "biuf" else object), which


def _labels(what: str, values: NDArray[Any], which: NDArray[np.int64], names: NDArray[Any], label: str) -> NDArray[Any]:
    first = np.full(len(names), -1)
    first[which[::-1]] = np.arange(len(which))[::-1]
    found = values[first]
    if (odd := np.flatnonzero(found[which] != values)).size:
        got = f"got {found[which][odd[0]]} and {values[odd[0]]} in {names[which[odd[0]]]!r}"
        raise DataError(f"{what}: expected one label {label!r} for all rows of a sequence, {got}.")
    return found


def sequence_content(what: str, x: Any, reading: Reading, split_by: Mapping[str, Any], event: Any = None) -> Content:
    """A table that was handed over, as sequences.

    Raises:
        DataError: no table, no such column, or anything said beside that goes with rows alone.
    """
    table, column = columnar(what, x), str(reading.sequence)
    if table is None:
        got = f"got {type(x).__name__}; pass a frame or a file with names of columns"
        raise DataError(f"{what}: sequence: expected a table with a column {column!r}, {got}.")
    beside = [name for name in CONTEXT if getattr(reading, name) is not None] + [*split_by]
    beside += ["event"] if event is not None else []
    beside += ["kind"] if reading.kind is not None else []
    if beside:
        raise DataError(f"{what}: {beside[0]}: expected none with a long table of sequences; leave it out.")
    header = table.header
    drop = [*(reading.drop or ()), *names_beside(table), header[position_of(what, column, header)]]
    said = Reading(reading.columns, reading.positions, drop, reading.label, row_names=reading.row_names)
    places, labeled = places_of(what, header, table.named, said)
    known = LongTable(drop[-1], tuple(header[place] for place in places))
    label = None if labeled is None else header[labeled]
    masked = reading.missing == "mask" or (reading.missing is None and reading.missing_value is not None)
    found = sequences_of(table, known, label, holes=masked)
    columns = () if label is None else (Column(label, "label", place=BESIDE),)
    return Content(what, found.x, found.labels, None, columns, sequence=known)


def sequences_to_test(first: Content, what: str, x: Any) -> Content:
    """A test part, as the sequences that are trained on, as long as these.

    Raises:
        DataError: it does not fit.
    """
    table, known = columnar(what, x), first.sequence
    if table is None or known is None:
        raise DataError(f"{what}: expected a table with a row for each step, got {type(x).__name__}.")
    label = next((column.name for column in first.columns if column.kind == "label"), None)
    found = sequences_of(table, known, label, steps=first.x.shape[1])
    return first._replace(what=what, x=found.x, labels=found.labels)


def further_columns(table: Columnar, known: LongTable, label: str | None) -> Sequence[str]:
    """Those that no one asks for."""
    return [name for name in table.header if name not in (known.column, *known.features, label)]
