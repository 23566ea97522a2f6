"""What was handed over, taken apart into features, labels and mask, by the names or places of columns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.schema import BESIDE, Column, Holder, unique
from curvae.data.tables.columnar import Columnar, FrameColumns, columnar, dtype_name, named_as
from curvae.data.validation import masked_out, observed, to_tensor

Names = Sequence[Any]


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

    @property
    def names(self) -> list[str] | None:
        """Names of the features; None where they have none."""
        return [column.name for column in self.columns if column.is_feature] or None if self.named else None


def take(
    what: str,
    x: Any,
    labels: Any = None,
    mask: Any = None,
    columns: Names | None = None,
    positions: Sequence[int] | None = None,
) -> Content:
    """What is in an array, a tensor, a frame or records; arguments as those of :func:`curvae.data.from_array`."""
    table = columnar(what, x)
    if table is None:
        return _from_array(what, x, labels, mask, columns, positions)
    holder = "frame" if isinstance(table, FrameColumns) else "array"
    if names_column(labels, table.header):
        return from_columns(table, columns, positions, labels)._replace(mask=mask, holder=holder)
    return from_columns(table, columns, positions)._replace(labels=labels, mask=mask, holder=holder)


def names_column(labels: Any, header: Sequence[str]) -> bool:
    """Whether labels are the name or place of a column, not the labels themselves."""
    return isinstance(labels, str | int) or (isinstance(labels, tuple) and named_as(labels) in header)


def from_columns(
    table: Columnar, columns: Names | None = None, positions: Sequence[int] | None = None, label: Any = None
) -> Content:
    """The features and the label of a table of named columns."""
    header = table.header
    places, labeled = places_of(table.what, header, table.named, columns, positions, label)
    unique(table.what, [header[j] for j in places] + ([] if labeled is None else [header[labeled]]))
    features = [Column(header[j], dtype=table.dtype(j), place=j) for j in places]
    labels = None if labeled is None else table.values(labeled)
    rest = _rest(header, places, labeled)
    return Content(table.what, table.numbers(places), labels, None, (*features, *rest), table.named)


def _rest(header: Sequence[str], places: Sequence[int], labeled: int | None) -> list[Column]:
    """The label, and the columns that are not looked at."""
    ignored = [j for j in range(len(header)) if j != labeled and j not in set(places)]
    label = [] if labeled is None else [Column(header[labeled], "label", place=labeled)]
    return label + [Column(header[j], "ignored", place=j) for j in ignored]


def _from_array(
    what: str, x: Any, labels: Any, mask: Any, columns: Names | None, positions: Sequence[int] | None
) -> Content:
    tensor, dtype, seen = to_tensor(what, x), dtype_of(x), mask_of(x, mask)
    if positions is None and not names_column(labels, ()):
        return Content(what, tensor, labels, seen, _columns(what, tensor, columns, dtype), bool(columns), dtype)
    if tensor.ndim != 2:
        got = f"got shape {tuple(tensor.shape)}"
        raise DataError(f"{what}: expected a table (N, F) to choose columns or a label from, {got}.")
    header = list(map(str, range(tensor.shape[1])))
    chosen = labels if names_column(labels, ()) else None
    places, labeled = places_of(what, header, False, None, positions, chosen)
    labels = labels if labeled is None else tensor[:, labeled]
    features = _columns(what, tensor[:, places], columns, dtype)
    known = [replace(column, place=j) for column, j in zip(features, places, strict=True)]
    seen = None if seen is None else seen[:, places]
    return Content(
        what, tensor[:, places], labels, seen, (*known, *_rest(header, places, labeled)), bool(columns), dtype
    )


def mask_of(x: Any, mask: Any) -> Tensor | None:
    """Where values are observed: as the mask says, and where a masked array of NumPy hides nothing."""
    given = None if mask is None else to_tensor("mask", mask).bool()
    seen = masked_out(x)
    if seen is None:
        return given
    hidden = torch.from_numpy(seen)
    return hidden if given is None else hidden & given


def _columns(what: str, x: Tensor, columns: Names | None, dtype: str) -> tuple[Column, ...]:
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
    return dtype_name(np.asarray(x).dtype)


def checked(content: Content, missing: str, shape: Callable[[str, Tensor], Tensor], mask: str = "mask") -> Rows:
    """Rows of features and mask in their shape, every one looked at: what is not observed is 0. Labels come later."""
    raw = shape(content.what, to_tensor(content.what, content.x))
    seen = None if content.mask is None else shape(mask, to_tensor("mask", content.mask))
    seen = observed(content.what, raw, seen, missing, content.names)
    return Rows(raw if seen is None else torch.where(seen, raw, 0), None, seen).numbered()


def places_of(
    what: str, header: Sequence[str], named: bool, columns: Names | None, positions: Sequence[int] | None, label: Any
) -> tuple[list[int], int | None]:
    """Where the features are and where the label is: features by name or by position, never guessed.

    Raises:
        DataError: no such column, both names and positions, no feature left.
    """
    if columns is not None and positions is not None:
        raise DataError("positions: expected columns by name or positions, got both; leave one of them out.")
    labeled = None if label is None else label_place(what, header, named, label)
    if columns is not None:
        chosen = [position_of(what, column, header) for column in columns]
    else:
        chosen = range(len(header)) if positions is None else at(what, positions, len(header))
    if not (kept := [j for j in chosen if j != labeled]):
        raise DataError(f"{what}: expected at least one feature column besides the label, got none; widen columns.")
    return kept, labeled


def position_of(what: str, column: Any, header: Sequence[str]) -> int:
    """Where the column of this name is."""
    name = named_as(column)
    if (count := list(header).count(name)) == 1:
        return list(header).index(name)
    if count:
        raise DataError(f"{what}: expected one column named {name!r}, got {count}; rename one or say positions=[...].")
    mend = "a number counts columns in positions=[...]" if isinstance(column, int) else "give its name"
    raise DataError(f"{what}: expected a column out of {few(header)}, got {column!r}; {mend}.")


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


def few(names: Sequence[str]) -> str:
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
