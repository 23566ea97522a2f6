"""Rows with missing cells, filled in: in the form in which they came, with intervals and how well they are known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data import ArrayTable, Schema, Transform
from curvae.data.own_units import columns_by_name, in_dtype, restore_dtypes
from curvae.data.stored import rows_in_memory
from curvae.data.tables.frames import FrameColumns, framed, library_of, named_as
from curvae.data.transforms import Chain, Identity, MeanSubtraction, Scale, Standardization
from curvae.fitted import outputs
from curvae.fitted.rows import TransformedRows
from curvae.systems import System
from curvae.systems.device import batch_to_system

Array = NDArray[Any]
DRAWS = 1000
"""Of the latents of each row."""
APART = 1.05
"""R-hat above which chains of a row disagree."""
AFFINE = (Identity, Scale, MeanSubtraction, Standardization)


@dataclass(frozen=True, eq=False)
class Imputed:
    """Filled rows, and what is known of each cell that was missing; N rows, all in own units."""

    filled: Any
    """As they came, a missing cell its mean given the observed ones: of categories the most probable, rounded where a
    column is whole."""
    draws: list[Any]
    """M tables like it, whose missing cells are drawn together from p(missing | observed): multiple imputations."""
    missing: Array
    """(N, *event), True where a cell was filled in."""
    mean: Array
    """(N, *event), not rounded; of categories their codes."""
    lower: Array
    """(N, *event), lower ends of intervals; NaN where a cell was observed, and of categories without an order."""
    upper: Array
    probability: Array
    """(N, *event), of the most probable value where that is a category, or 0 or 1; else NaN."""
    effective_draws: Array
    """(N,): so many draws of equal weight would say as much of the latents of a row. NaN where nothing is missing, and
    of systems that fill in by themselves."""
    r_hat: Array
    """(N,), the largest split R-hat among the latents of a row that chains filled in; else NaN. Infinite where one
    never moved."""
    flagged: Array
    """(N,), True where effective draws are too few (below 50) to trust what is filled in, or R-hat is above 1.05."""
    cells: Any
    """A frame with a line for each cell that was filled in: row (the frame's index, or its number), column, value,
    lower, upper, probability, effective_draws, flagged; r_hat where chains filled in."""

    def __repr__(self) -> str:
        cells, rows = int(self.missing.sum()), int(self.missing.reshape(len(self.missing), -1).any(1).sum())
        return f"Imputed({cells:,} cells in {rows:,} of {len(self.missing):,} rows, {int(self.flagged.sum())} flagged)"


def impute_rows(
    system: System,
    schema: Schema,
    rows: TransformedRows,
    draws: int = 0,
    level: float = 0.9,
    seed: int = 0,
    by: str = "modes",
) -> Imputed:
    """Rows that were read, filled in.

    Args:
        system: that is trained.
        schema: of its run.
        rows: under the transform of the run.
        draws: M, further tables.
        level: probability that an interval holds.
        seed: of all draws.
        by: which engine draws latents, see :func:`curvae.evaluation.conditionals`.
    """
    from curvae.evaluation.samples.conditionals import FEW

    raw, seen = rows_in_memory(rows.table.raw).cpu().numpy(), observed_cells(rows.table)
    own = in_own_units(system, schema, rows.table, draws, level, seed, by=by)
    mean, *drawn = (_kept(schema, raw, seen, torch.from_numpy(each)) for each in (own["mean"], *own["drawn"]))
    effective, r_hat = own["effective"], own["r_hat"]
    flagged = (effective < FEW) | (r_hat > APART)
    of_rows = {"effective_draws": effective, "flagged": flagged} | ({"r_hat": r_hat} if by == "chains" else {})
    known = {name: own[name] for name in ("lower", "upper", "probability")}
    return Imputed(
        filled=in_its_form(rows, schema, mean),
        draws=[in_its_form(rows, schema, each) for each in drawn],
        missing=~seen,
        mean=np.where(seen, raw, own["mean"]),
        effective_draws=effective,
        r_hat=r_hat,
        flagged=flagged,
        cells=_cells(rows, schema, mean, known, of_rows),
        **known,
    )


def observed_cells(table: ArrayTable) -> Array:
    """True where a cell was observed, (N, *event)."""
    return np.ones(table.raw.shape, dtype=bool) if table.mask is None else table.mask.cpu().numpy()


def in_own_units(
    system: System,
    schema: Schema,
    table: ArrayTable,
    draws: int,
    level: float,
    seed: int,
    samples: int = DRAWS,
    by_mask: bool = True,
    by: str = "modes",
) -> dict[str, Array]:
    """What is known of missing cells, in float64; of a column that never varied that constant.

    Unless ``by_mask`` nothing is concluded from what is missing, whatever the system has learned of that.
    """
    from curvae.evaluation import conditionals

    inverse, affine = table.transform.inverse, _is_affine(table.transform)
    batch = batch_to_system(system, table.batch(torch.arange(len(table))))
    mask = torch.from_numpy(observed_cells(table)).to(batch.x.device)
    average = None if affine else inverse
    made = conditionals(system, batch.x, mask, draws, level, seed, average, samples, batch.given, by_mask, by)
    found = {name: value.cpu() for name, value in made._asdict().items()}
    turned = ("lower", "upper", "drawn", "mean") if affine else ("lower", "upper", "drawn")
    own = {name: (inverse(value) if name in turned else value).double().numpy() for name, value in found.items()}
    for j, column in enumerate(schema.features):
        if column.constant is not None:
            for name in ("mean", "lower", "upper"):
                own[name][~np.isnan(own[name][:, j]), j] = column.constant
    return own


def _is_affine(transform: Transform) -> bool:
    """Whether the mean of what it gives is what it gives of the mean."""
    parts = transform.parts if isinstance(transform, Chain) else (transform,)
    return all(isinstance(part, AFFINE) for part in parts)


def _kept(schema: Schema, raw: Array, seen: Array, values: Tensor) -> Array:
    """Restored values where something is missing, and what was observed as it was."""
    own = restore_dtypes(schema, values)
    filled = np.where(seen, raw, own)
    exact = filled.astype(own.dtype)
    return exact if np.array_equal(exact, filled) else filled


def typed_columns(schema: Schema, values: Array) -> dict[str, Array]:
    """Rows column by column, each of its own type where that can hold all values of it.

    >>> from curvae.data.schema import Column
    >>> from curvae.typing import DataSpec
    >>> schema = Schema(DataSpec((2,)), (Column("n", "count", "int64"), Column("m", "count", "int64")))
    >>> [column.dtype.name for column in typed_columns(schema, np.array([[1.0, 1.0], [2.0, 2.5]])).values()]
    ['int64', 'float64']
    """
    found = columns_by_name(schema, values)
    for column, own in zip(schema.features, values.reshape(len(values), -1).T, strict=False):
        if column.vocabulary is None and not np.array_equal(in_dtype(own, column), own):
            found[column.name] = own
    return found


def in_its_form(rows: TransformedRows, schema: Schema, values: Array) -> Any:
    """Filled rows as a frame where one came in, with all of its columns; else as an array."""
    if rows.frame is None:
        return values
    frame, columns, seen = (
        rows.frame,
        typed_columns(schema, values),
        observed_cells(rows.table).reshape(len(values), -1),
    )
    places = _places(frame, list(columns))
    if places is None:
        return outputs.as_given(frame, schema, values)
    if library_of(frame) != "pandas":
        return _filled(frame, places, list(columns.values()), seen)
    made = frame.copy()
    for place, column, there in zip(places, columns.values(), seen.T, strict=True):
        if not there.all():
            made.isetitem(place, _replaced(made.iloc[:, place], ~there, column[~there]))
    return made


def _filled(frame: Any, places: list[int], columns: list[Array], seen: Array) -> Any:
    """A frame of polars or Arrow with other values where something is missing, its columns of their own types."""
    import narwhals.stable.v2 as nw

    table = nw.from_native(frame, eager_only=True)
    for place, column, there in zip(places, columns, seen.T, strict=True):
        if not there.all():
            old = table[table.columns[place]]
            known = zip(old, column.tolist(), there, strict=True)
            table = table.with_columns(_series([o if kept else new for o, new, kept in known], old, nw))
    return table.to_native()


def _series(values: list[Any], old: Any, nw: Any) -> Any:
    """Values as a series like the old one, of another type only where that cannot hold them."""
    if old.dtype == nw.Boolean:
        return nw.new_series(old.name, [bool(value) for value in values], backend=old.implementation)
    if any(isinstance(value, float) for value in values):
        values = [float(value) for value in values]
    made = nw.new_series(old.name, values, backend=old.implementation)
    if isinstance(values[0], str):
        levels = set(old.dtype.categories) if old.dtype == nw.Enum else set(values)
        return made.cast(old.dtype) if levels.issuperset(values) else made
    fits = not old.dtype.is_integer() or all(float(value).is_integer() for value in values)
    return made.cast(old.dtype) if fits else made


def _places(frame: Any, names: list[str]) -> list[int] | None:
    """Where a frame has the features: by name, else by place where it has nothing else; None where neither is so."""
    header = [named_as(name) for name in FrameColumns("x", frame).names]
    if all(header.count(name) == 1 for name in names):
        return [header.index(name) for name in names]
    return [*range(len(names))] if len(header) == len(names) else None


def _replaced(series: Any, at: Array, values: Array) -> Any:
    """A column of a frame with other values at some rows, in its own type where that can hold them."""
    if series.dtype.name == "category":
        series = series.cat.add_categories(sorted(set(values.tolist()) - set(series.cat.categories)))
    elif isinstance(series.dtype, np.dtype) and series.dtype.kind in "iuf" and values.dtype.kind in "iuf":
        whole = series.to_numpy(dtype=np.float64, copy=True)
        whole[at] = values
        kind = values.dtype if _is_whole(whole, values) else series.dtype if series.dtype.kind == "f" else np.float64
        return type(series)(whole.astype(kind), index=series.index, name=series.name)
    elif series.dtype.name.lower().startswith(("int", "uint")) and values.dtype.kind == "f":
        series = series.astype("Float64")
    made = series.copy()
    made[at] = values.tolist()
    return made


def _is_whole(column: Array, values: Array) -> bool:
    return values.dtype.kind in "iu" and bool((column == np.round(column)).all())


def _cells(
    rows: TransformedRows, schema: Schema, values: Array, known: dict[str, Array], of_rows: dict[str, Array]
) -> Any:
    """A line for each cell that was missing."""
    row, element = np.nonzero(~observed_cells(rows.table).reshape(len(values), -1))
    columns = typed_columns(schema, values)
    names = np.array(list(columns), dtype=object)
    told = [list(columns.values())[j][i] for i, j in zip(row.tolist(), element.tolist(), strict=True)]
    found = {"row": row_names(rows)[row], "column": names[element], "value": np.array([*told, None], dtype=object)[:-1]}
    found |= {name: each.reshape(len(values), -1)[row, element] for name, each in known.items()}
    return framed("pandas", found | {name: each[row] for name, each in of_rows.items()})


def row_names(rows: TransformedRows) -> Array:
    """What rows are known by: the index of their frame, or their numbers in the file or array."""
    index = getattr(rows.frame, "index", None)
    return rows.number if index is None else index.to_numpy()


def written_columns(rows: TransformedRows, schema: Schema, values: Array) -> dict[str, Array]:
    """Filled rows column by column as they are written: those of the file that they came from, in its order.

    Other columns of the file are as they stand there. Without a file with names, the row and the label go along.
    """
    columns, source = typed_columns(schema, values), rows.source
    labels = {} if rows.labels is None else {outputs.label_of(schema): rows.labels}
    if source is None or not source.named or len(set(source.header)) < len(source.header):
        return {**rows.keys, **columns, **labels}
    return rows.names | {
        name: columns[name] if name in columns else source.values(place, words=True)
        for place, name in enumerate(source.header)
    }
