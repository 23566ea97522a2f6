"""New rows of a run: found by the names of its columns, read in its kinds, refused where they do not fit."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any, NamedTuple, cast

from numpy.typing import NDArray
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError, DataWarning
from curvae.data.formats.cells import is_anndata, without_anndata
from curvae.data.schema import BESIDE, Column, LongTable, Schema, unique
from curvae.data.stored import StoredRows, rows_in_memory
from curvae.data.tables.categories import column_numbers
from curvae.data.tables.columnar import Columnar, columnar, names_beside
from curvae.data.tables.content import (
    Content,
    checked_rows,
    combined_mask,
    label_place,
    left_out_places,
    listed_names,
    names_column,
    places_of,
)
from curvae.data.tables.context import names_of_roles, numbered_table, read_known, with_context
from curvae.data.tables.labels import UNKNOWN, flat, missing, read_as, words
from curvae.data.tables.long_tables import further_columns, sequences_of
from curvae.data.tables.mapped import left_in_file
from curvae.data.validation import CHANNELS, locate_first, to_tensor
from curvae.io.reading import Reading
from curvae.typing import DataSpec, Support


class Matched(NamedTuple):
    """New rows in the order and the kinds of a run."""

    rows: Rows
    """Labels by the run's codes, -1 where it has none for them."""
    labels: NDArray[Any] | None
    """Labels as they came, in words or numbers."""
    table: Columnar | None = None
    """The whole table of a file, other columns included."""
    sequences: NDArray[Any] | None = None
    """What each sequence of a long table is called."""


AS_THE_RUN = Reading()


def match(
    schema: Schema, what: str, x: Any, labels: Any = None, mask: Any = None, reading: Reading = AS_THE_RUN
) -> Matched:
    """Rows as the run's were read.

    Args:
        schema: of the run.
        what: how messages name the rows.
        x: an array, a tensor, a frame, records or a text table. Columns with names are found by them, whatever their
            order, others by place. Columns that the run does not know are passed over with a :class:`DataWarning`.
        labels: one a row; by default the column that the run has for them, if there is one.
        mask: of the shape of x, True = observed.
        reading: what is to be read otherwise than in the run.

    Raises:
        DataError: a feature is missing, a value is not of its kind, a shape does not fit.
    """
    if schema.sequence is not None and (table := columnar(what, x)) is not None:
        return _match_sequences(schema, schema.sequence, what, table, labels, reading)
    if is_anndata(x):
        named = schema.label.name if labels is None and schema.label is not None else labels
        x, told = without_anndata(x, named, reading.key, names_of_roles(schema.columns))
        labels = labels if told is named else told
    label = labels if names_column(labels, ()) else reading.label
    content = select_columns(schema.columns, schema.named, what, x, replace(reading, label=label), mask)
    if labels is not None and not names_column(labels, ()):
        content = content._replace(labels=labels)
    if isinstance(content.x, StoredRows):
        content = content._replace(x=content.x[:])
    shape, markers = partial(reshape_to_example, spec=schema.spec), (*schema.markers, *reading.markers)
    rows = checked_rows(content, missing_of(schema, reading), shape, f"{what}: mask", markers)
    _check_kinds(what, rows, schema.spec, content.names)
    rows = with_context(what, rows, content.context, schema.columns, markers)
    if content.labels is None:
        return Matched(rows, None)
    told = flat(f"{what}: labels", content.labels, len(rows.raw))
    codes = read_as(schema.vocabulary, told)
    _say_unknown(what, told, codes, schema)
    return Matched(rows._replace(label=codes), told if told.dtype.kind in "biuf" else words(told))


def _match_sequences(
    schema: Schema, known: LongTable, what: str, table: Columnar, labels: Any, reading: Reading
) -> Matched:
    """The same of a long table, a row for each step."""
    own = None if schema.label is None else schema.label.name
    label = own if reading.label is None else str(reading.label)
    found = sequences_of(table, known, label, steps=schema.spec.event[0])
    if extra := further_columns(table, known, label):
        _say(f"{what}: ignored {listed_names(list(map(repr, extra)))}, which the run does not have.")
    told = found.labels if labels is None else labels
    matched = match(schema, what, found.x, told, reading=replace(reading, label=None))
    return matched._replace(sequences=found.names)


def missing_of(schema: Schema, reading: Reading) -> str:
    """What a missing value is: as said, else as in the run."""
    return reading.missing or ("mask" if reading.missing_value is not None else schema.missing)


def select_columns(
    known: Sequence[Column], named: bool, what: str, x: Any, reading: Reading = AS_THE_RUN, mask: Any = None
) -> Content:
    """The columns of a run, in its order, of a table that need not be like its own; arrays that are no tables as is."""
    table = columnar(what, x)
    features = tuple(column for column in known if column.is_feature)
    if table is None:
        return _from_array(known, what, x, reading, mask)._replace(named=named)
    reading = replace(reading, drop=[*(reading.drop or ()), *names_beside(table)])
    places, labeled = _places(known, named, table, reading)
    in_words = any(column.vocabulary is not None for column in known if column.kind == "label")
    labels = None if labeled is None else table.values(labeled, in_words)
    x, _ = column_numbers(table, places, features)
    return Content(what, x, labels, mask, features, named, context=read_known(table, what, known, features))


def _from_array(known: Sequence[Column], what: str, x: Any, reading: Reading, mask: Any) -> Content:
    """Columns without names go by place, where there are as many as the run has."""
    stored = left_in_file(what, x)
    tensor = to_tensor(what, x) if stored is None else rows_in_memory(stored)
    seen = combined_mask(x, mask)
    features = tuple(column for column in known if column.is_feature)
    context = read_known(numbered_table(what, tensor), what, known, features)
    if tensor.ndim != 2 or not features:
        return Content(what, tensor, None, seen, features, context=context)
    header = list(map(str, range(tensor.shape[1])))
    places, labeled = _by_place(known, what, header, False, reading)
    labels = None if labeled is None else tensor[:, labeled]
    seen = None if seen is None else seen[:, places]
    return Content(what, tensor[:, places], labels, seen, features, context=context)


def _places(known: Sequence[Column], named: bool, table: Columnar, reading: Reading) -> tuple[list[int], int | None]:
    """Where a table has the features of a run and its label: by name where there are names, else by place."""
    header = table.header
    names = [column.name for column in known if column.is_feature]
    missing = [name for name in names if name not in header]
    if reading.features or not names or (missing and not (named and table.named)):
        return _by_place(known, table.what, header, table.named, reading)
    if missing:
        lacks = f"{listed_names(missing)} {'is' if len(missing) == 1 else 'are'} missing among {listed_names(header)}"
        raise DataError(f"{table.what}: expected the run's columns {listed_names(names)}, but {lacks}; name them so.")
    unique(table.what, [name for name in header if name in set(names)])
    labeled = _labeled(known, table.what, header, table.named, reading)
    places = [header.index(name) for name in names]
    _say_extra(known, table.what, header, {*places, labeled})
    return places, labeled


def _by_place(
    known: Sequence[Column], what: str, header: Sequence[str], named: bool, reading: Reading
) -> tuple[list[int], int | None]:
    """As said; else all columns but the label where they are as many as the features, or all as in the run's file."""
    features = [column for column in known if column.is_feature]
    whole = [column for column in known if column.place != BESIDE]
    if not reading.features and reading.label is None and len(header) == len(whole) > len(features) > 0:
        label = next((column.place for column in whole if column.kind == "label"), None)
        return [column.place for column in features], label
    labeled = _labeled(known, what, header, named, reading)
    if reading.features:
        places, _ = places_of(what, header, named, replace(reading, label=None, kind=None))
    else:
        left_out = left_out_places(what, header, replace(reading, kind=None))
        places = [j for j in range(len(header)) if j != labeled and j not in left_out]
    if features and len(places) != len(features):
        ours = listed_names([column.name for column in features])
        raise DataError(f"{what}: expected {len(features)} columns, {ours}, got {len(places)}.")
    return places, labeled


def _labeled(known: Sequence[Column], what: str, header: Sequence[str], named: bool, reading: Reading) -> int | None:
    """Where the label is: where it is said to be, or under the run's name for it; it may be absent."""
    if reading.label is not None:
        return label_place(what, header, named, reading.label)
    names = [column.name for column in known if column.kind == "label" and column.place != BESIDE]
    return header.index(names[0]) if names and list(header).count(names[0]) == 1 else None


def _say_extra(known: Sequence[Column], what: str, header: Sequence[str], used: set[int | None]) -> None:
    ours = {column.name for column in known}
    extra = [name for j, name in enumerate(header) if j not in used and name not in ours]
    if extra:
        _say(f"{what}: ignored {listed_names(list(map(repr, extra)))}, which the run does not have.")


def _say_unknown(what: str, told: NDArray[Any], codes: Tensor, schema: Schema) -> None:
    """Name the labels that the run has no code for."""
    empty = missing(told)
    if empty.any():
        _say(f"{what}: {int(empty.sum())} of {len(told)} rows have no label.")
    unknown = sorted(set(words(told)[(codes == UNKNOWN).numpy() & ~empty].tolist()))
    if schema.vocabulary is None:
        unknown = [word for word in unknown if not _is_number(word)]
    if unknown:
        ours = "no number" if schema.vocabulary is None else f"none of {listed_names(schema.vocabulary)}"
        _say(f"{what}: label {listed_names(list(map(repr, unknown)))} is {ours}, as in the run; it counts as no label.")


def _is_number(word: str) -> bool:
    try:
        return float(word) is not None
    except ValueError:
        return word in ("True", "False")


def _say(line: str) -> None:
    warnings.warn(line, DataWarning, stacklevel=3)


def reshape_to_example(what: str, x: Tensor, spec: DataSpec) -> Tensor:
    """Rows in the shape of an example of the run; flat rows, and images with their channels last, are put into it.

    Raises:
        DataError: no rows, or rows of another shape.
    """
    event = tuple(spec.event)
    if x.ndim == 0 or len(x) == 0:
        raise DataError(f"{what}: expected rows of data, got shape {tuple(x.shape)}; pass at least one row.")
    got = tuple(x.shape[1:])
    if got == event:
        return x
    if len(event) == 3 and x.ndim == 4 and x.shape[-1] in CHANNELS and (got[-1], *got[:-1]) == event:
        return x.movedim(-1, 1).contiguous()
    if x.ndim > 1 and (got == (prod(event),) or _without_ones(got) == _without_ones(event)):
        return x.reshape(len(x), *event)
    mend = "; for one row pass x[None]" if tuple(x.shape) == event else ""
    raise DataError(f"{what}: expected data of shape {event}, as those of the run, got {got or tuple(x.shape)}{mend}.")


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _check_kinds(what: str, rows: Rows, spec: DataSpec, names: Sequence[str] | None) -> None:
    """Counts, positive numbers, binary data and categories hold no other values than the run's may."""
    x = rows_in_memory(rows.raw).double()
    match spec.support:
        case "real":
            return
        case "mixed":
            return _check_columns(what, rows, spec, names)
        case "positive":
            bad, known = x <= 0, "numbers above 0"
        case "count":
            bad, known = (x < 0) | (x != x.floor()), "integers from 0"
        case "binary":
            bad, known = (x != 0) & (x != 1), "0 and 1"
        case "category":
            bad = (x < 0) | (x > spec.categories - 1) | (x != x.floor())
            known = f"categories 0 to {spec.categories - 1}"
    bad = bad if rows.mask is None else bad & rows.mask
    if bad.any():
        row, column = locate_first(bad, names)
        got = f"{float(x[bad][0]):g} in row {row}, column {column}"
        raise DataError(f"{what}: expected {known}, as in the run, got {got}.")


def _check_columns(what: str, rows: Rows, spec: DataSpec, names: Sequence[str] | None) -> None:
    """The same of columns of different kinds."""
    for (kind, categories), columns in spec.groups().items():
        part = rows._replace(
            raw=rows_in_memory(rows.raw)[:, columns], mask=None if rows.mask is None else rows.mask[:, columns]
        )
        single = DataSpec((len(columns),), "category" if kind == "ordinal" else cast(Support, kind), categories)
        _check_kinds(what, part, single, None if names is None else [names[column] for column in columns])
