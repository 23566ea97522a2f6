"""What was handed over, taken apart into features, labels and mask, by the names or places of columns."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.dialect import Decision, Dialect
from curvae.data.errors import DataError
from curvae.data.formats.cells import is_anndata, without_anndata
from curvae.data.formats.zarr_arrays import ZarrRows
from curvae.data.schema import BESIDE, DECLARED, Column, FrameKind, Holder, LongTable, unique
from curvae.data.stored import Raw, StoredRows, columns_at, single_column
from curvae.data.tables.categories import column_numbers
from curvae.data.tables.columnar import Columnar, columnar, dtype_name, names_beside
from curvae.data.tables.context import numbered_table, read_context, role_columns
from curvae.data.tables.frames import FrameColumns, library_of, named_as
from curvae.data.tables.mapped import left_in_file, rows_in_file
from curvae.data.tables.markers import unmarked_tensor
from curvae.data.validation import observed_in_masked_array, observed_mask, to_tensor
from curvae.io.reading import Reading
from curvae.typing import Context

Names = Sequence[Any]
AS_FOUND = Reading()


class Content(NamedTuple):
    """Features, labels and mask as they came, and what is known of their columns before values are looked at."""

    what: str
    """How messages name it."""
    x: Any
    labels: Any = None
    mask: Any = None
    columns: tuple[Column, ...] = ()
    """Features in the model's order, then the label and what is ignored; none where it is no table."""
    named: bool = False
    dtype: str = "float64"
    holder: Holder = "array"
    frame: FrameKind = "pandas"
    dialect: Dialect | None = None
    decisions: tuple[Decision, ...] = ()
    beside: Mapping[str, Any] = {}
    """Columns that say how rows are split, by what they say."""
    context: Context | None = None
    """What is known of each row, before values are looked at."""
    sequence: LongTable | None = None
    """Columns of the long table that sequences were read from."""

    @property
    def names(self) -> list[str] | None:
        """Names of the features; None where they have none."""
        return [column.name for column in self.columns if column.is_feature] or None if self.named else None


def split_content(
    what: str,
    x: Any,
    labels: Any = None,
    mask: Any = None,
    reading: Reading = AS_FOUND,
    copy: bool = True,
) -> Content:
    """What is in an array, a tensor, a frame or records; arguments as those of :func:`curvae.data.from_array`.

    ``copy`` is of what is an array already: not needed where nobody else holds it.
    """
    if is_anndata(x):
        named = reading.label if labels is None else labels
        x, told = without_anndata(x, named, reading.key, reading.beside)
        content = split_content(what, x, told, mask, replace(reading, label=None), copy)
        return content if told is named else relabeled(content, str(named))
    table = columnar(what, x)
    labels = reading.label if labels is None else labels
    if table is None:
        return _from_array(what, x, labels, mask, reading, copy)
    holder, frame = ("frame", library_of(table.frame)) if isinstance(table, FrameColumns) else ("array", "pandas")
    if labels is None or names_column(labels, table.header):
        label = named_as(labels) if isinstance(labels, tuple) else labels
        return from_columns(table, replace(reading, label=label))._replace(mask=mask, holder=holder, frame=frame)
    return from_columns(table, reading)._replace(labels=labels, mask=mask, holder=holder, frame=frame)


def with_split(content: Content, table: Columnar | None, split_by: Mapping[str, Any]) -> Content:
    """With the columns that say how rows are split, where they are named."""
    names = names_in(split_by)
    if names and table is None:
        key, name = next(iter(names.items()))
        raise DataError(f"{key}: expected one value a row with data that have no named columns, got {name!r}.")
    if table is None:
        return content
    places = {key: position_of(table.what, name, table.header) for key, name in names.items()}
    return content._replace(beside={key: table.values(place) for key, place in places.items()})


def names_in(split_by: Mapping[str, Any]) -> dict[str, str | int]:
    """The columns that rows are split by, where they are named and not given value by value."""
    return {key: name for key, name in split_by.items() if isinstance(name, str | int)}


def without_split(reading: Reading, split_by: Mapping[str, Any]) -> Reading:
    """Columns of parts and of groups are no features."""
    names = [name for key, name in names_in(split_by).items() if key != "stratify"]
    return replace(reading, drop=[*(reading.drop or ()), *names]) if names else reading


def names_column(labels: Any, header: Sequence[str]) -> bool:
    """Whether labels are the name or place of a column, not the labels themselves."""
    return isinstance(labels, str | int) or (isinstance(labels, tuple) and named_as(labels) in header)


def from_columns(table: Columnar, reading: Reading = AS_FOUND) -> Content:
    """The features and the label of a table of named columns."""
    header, kinds = table.header, reading.kinds
    reading = replace(reading, drop=[*(reading.drop or ()), *names_beside(table)])
    places, labeled = places_of(table.what, header, table.named, reading)
    unique(table.what, [header[j] for j in places] + ([] if labeled is None else [header[labeled]]))
    features = [Column(header[j], dtype=table.dtype(j), place=j) for j in places]
    coded = [_as_category(table, each, kinds.get(each.name)) for each in features]
    x, known = column_numbers(table, places, coded)
    labels = None if labeled is None else table.values(labeled)
    context, roles = read_context(table, table.what, role_columns(table.what, header, reading), known, kinds)
    rest = _rest(header, places, labeled, {column.place for column in roles})
    return Content(table.what, x, labels, None, (*known, *roles, *rest), table.named, context=context)


def _as_category(table: Columnar, column: Column, said: str | None) -> Column:
    """A column of categories, where it is said to be one, or its own type says so and nobody else something else."""
    words = table.vocabulary(column.place) if said in (None, "category", "ordinal") else None
    return replace(column, kind="category", vocabulary=words) if words or said == "category" else column


def _rest(
    header: Sequence[str], places: Sequence[int], labeled: int | None, known: Set[int] = frozenset()
) -> list[Column]:
    """The label, and the columns that are not looked at."""
    taken = {labeled, *places, *known}
    ignored = [j for j in range(len(header)) if j not in taken]
    label = [] if labeled is None else [Column(header[labeled], "label", place=labeled)]
    return label + [Column(header[j], "ignored", place=j) for j in ignored]


def _from_array(what: str, x: Any, labels: Any, mask: Any, reading: Reading, copy: bool) -> Content:
    stored = None if mask is not None else left_in_file(what, x)
    tensor = to_tensor(what, x, copy) if stored is None else stored
    dtype, seen = dtype_of(x), combined_mask(x, mask)
    header = list(map(str, range(tensor.shape[1]))) if tensor.ndim == 2 else []
    said = role_columns(what, header, reading)
    tensor = tensor[:] if said else tensor
    chooses = reading.positions is not None or reading.drop or names_column(labels, ())
    if not chooses and all(column.place == BESIDE for column in said):
        context, roles = read_context(None, what, said, (), {})
        known = (*_columns(what, tensor, reading.columns, dtype), *roles)
        return Content(what, tensor, labels, seen, known, bool(reading.columns), dtype, context=context)
    if tensor.ndim != 2:
        got = f"got shape {tuple(tensor.shape)}"
        raise DataError(f"{what}: expected a table (N, F) to choose columns or a label from, {got}.")
    label = labels if names_column(labels, ()) else None
    places, labeled = places_of(what, header, False, replace(reading, columns=None, label=label, kind=None))
    labels = labels if labeled is None else single_column(tensor, labeled)
    chosen = columns_at(tensor, places)
    features = _columns(what, chosen, reading.columns, dtype)
    known = [replace(column, place=j) for column, j in zip(features, places, strict=True)]
    if said and reading.columns is None:
        known = [replace(column, name=str(column.place)) for column in known]
    unique("columns", [column.name for column in (*known, *said)])
    table = numbered_table(what, tensor) if isinstance(tensor, Tensor) else None
    context, roles = read_context(table, what, said, known, reading.kinds)
    rest = _rest(header, places, labeled, {column.place for column in roles})
    seen, named = None if seen is None else seen[:, places], bool(reading.columns)
    return Content(what, chosen, labels, seen, (*known, *roles, *rest), named, dtype, context=context)


def combined_mask(x: Any, mask: Any) -> Tensor | None:
    """Where values are observed: as the mask says, and where a masked array of NumPy hides nothing."""
    given = None if mask is None else to_tensor("mask", mask).bool()
    seen = observed_in_masked_array(x)
    if seen is None:
        return given
    hidden = torch.from_numpy(seen)
    return hidden if given is None else hidden & given


def _columns(what: str, x: Raw, columns: Names | None, dtype: str) -> tuple[Column, ...]:
    """Those of a plain array that is a table."""
    if x.ndim != 2:
        return ()
    names = list(map(str, range(x.shape[1]))) if columns is None else list(map(named_as, columns))
    if len(names) != x.shape[1]:
        raise DataError(f"columns: expected {x.shape[1]} names, one a feature of {what}, got {len(names)}.")
    unique("columns", names)
    return tuple(Column(name, dtype=dtype, place=place) for place, name in enumerate(names))


def dtype_of(x: Any) -> str:
    """NumPy's name of the type of an array or tensor as it came."""
    if isinstance(x, Tensor):
        return "float32" if x.dtype is torch.bfloat16 else str(x.dtype).removeprefix("torch.")
    return dtype_name(x.array.dtype if isinstance(x, ZarrRows) else np.asarray(x).dtype)


def checked_rows(
    content: Content,
    missing: str,
    shape: Callable[[str, Tensor], Tensor],
    mask: str = "mask",
    markers: Sequence[str] = (),
) -> Rows:
    """Rows of features and mask in their shape, every one looked at: what is not observed is 0. Labels come later."""
    if isinstance(content.x, StoredRows):
        raw = content.x.through(lambda part: shape(content.what, unmarked_tensor(part, markers)))
        return rows_in_file(content.what, raw, missing, content.names)
    raw = shape(content.what, unmarked_tensor(to_tensor(content.what, content.x, copy=False), markers))
    seen = None if content.mask is None else shape(mask, to_tensor("mask", content.mask))
    seen = observed_mask(content.what, raw, seen, missing, content.names)
    return Rows(raw if seen is None else torch.where(seen, raw, 0), None, seen).numbered()


def places_of(what: str, header: Sequence[str], named: bool, reading: Reading) -> tuple[list[int], int | None]:
    """Where the features are and where the label is: features by name or by position, never guessed.

    Raises:
        DataError: no such column, both names and positions, no feature left.
    """
    columns, positions, label = reading.columns, reading.positions, reading.label
    if columns is not None and positions is not None:
        raise DataError("positions: expected columns by name or positions, got both; leave one of them out.")
    as_label = [name for name, kind in reading.kinds.items() if kind == "label"]
    label = as_label[0] if label is None and as_label else label
    labeled = None if label is None else label_place(what, header, named, label)
    left_out = left_out_places(what, header, reading)
    if columns is not None:
        chosen = [position_of(what, column, header) for column in columns]
    else:
        chosen = range(len(header)) if positions is None else at(what, positions, len(header))
    if not (kept := [j for j in chosen if j != labeled and j not in left_out]):
        raise DataError(f"{what}: expected at least one feature column besides the label, got none; widen columns.")
    return kept, labeled


def left_out_places(what: str, header: Sequence[str], reading: Reading) -> set[int]:
    """Where the columns are that are said to be no features."""
    for name, kind in reading.kinds.items():
        if kind not in DECLARED:
            raise DataError(f"kind: expected one of {', '.join(DECLARED)}, got {kind!r} for {name!r}.")
        position_of(what, name, header)
    names = [*(reading.drop or ()), *(each.name for each in role_columns(what, header, reading) if each.place >= 0)]
    names += [*(name for name, kind in reading.kinds.items() if kind == "ignored")]
    names += [reading.row_names] if reading.row_names is not None and str(reading.row_names) in header else []
    return {position_of(what, name, header) for name in names}


def position_of(what: str, column: Any, header: Sequence[str]) -> int:
    """Where the column of this name is."""
    name = named_as(column)
    if (count := list(header).count(name)) == 1:
        return list(header).index(name)
    if count:
        raise DataError(f"{what}: expected one column named {name!r}, got {count}; rename one or say positions=[...].")
    mend = "a number counts columns in positions=[...]" if isinstance(column, int) else "give its name"
    raise DataError(f"{what}: expected a column out of {listed_names(header)}, got {column!r}; {mend}.")


def label_place(what: str, header: Sequence[str], named: bool, label: Any) -> int:
    """The label's place: by name first; a number that is no name counts columns, unless names are numbers too."""
    numbered = named and any(name.lstrip("+-").isdecimal() for name in header)
    if isinstance(label, int) and str(label) not in header and not numbered:
        return at(what, [label], len(header))[0]
    return position_of(what, label, header)


def at(what: str, positions: Sequence[int], width: int) -> list[int]:
    """Places counted from 0, or from the end by negative numbers."""
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int) or not -width <= position < width:
            raise DataError(f"{what}: expected positions in 0..{width - 1}, got {position!r}.")
    places = [position % width for position in positions]
    unique("positions", list(map(str, places)))
    return places


def listed_names(names: Sequence[str]) -> str:
    """Names, the first twenty of them."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def relabeled(content: Content, name: str = "label") -> Content:
    """With a column for labels that came beside the features."""
    if content.labels is None or any(column.kind == "label" for column in content.columns):
        return content
    taken = {column.name for column in content.columns}
    while name in taken:
        name += "_"
    features = [column for column in content.columns if column.is_feature]
    ignored = [column for column in content.columns if not column.is_feature]
    return content._replace(columns=(*features, Column(name, "label", place=BESIDE), *ignored))
