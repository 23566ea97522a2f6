"""New rows given some of their columns: draws from p(x | given), by the engine that fills in missing cells."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data import DataError, Schema
from curvae.data.own_units import restore_dtypes
from curvae.data.schema import Column
from curvae.data.stored import rows_in_memory
from curvae.data.tables.frames import framed
from curvae.fitted.imputing import in_own_units, observed_cells
from curvae.fitted.rows import Reading, rows_of

if TYPE_CHECKING:
    from curvae.fitted.fitted import Fitted

FEWEST = 10
"""Effective draws of the latents below which no rows are drawn."""
EACH = 5
"""Weighted draws of the latents for each row that is asked for."""
LEAST, MOST = 2_000, 50_000
"""Of these draws."""
BESIDE_X = ("error", "exposure", "covariate")
"""Kinds of columns that p(x) depends on, beside the features."""


class GivenRows(NamedTuple):
    """Rows that were drawn, and from how many effective draws of the latents."""

    x: NDArray[Any]
    """(N, features), in own units; what was given is as it was given."""
    effective_draws: float
    beyond: tuple[str, ...]
    """Columns whose given value is smaller or larger than in each of 2,000 rows that the model draws: there it says
    little that it has learned."""


def draw_given(fitted: "Fitted", given: Mapping[Any, Any], n: int, seed: int) -> GivenRows:
    """Draw n rows of ``p(x | given)``.

    Raises:
        DataError: a column that the run does not have, or a value that is not of its kind.
        ValueError: fewer than 10 effective draws of the latents are left: too few to draw from.
    """
    schema = fitted.schema
    rows = rows_of(fitted.run, one_row(schema, given), reading=Reading(missing="mask"))
    samples = min(MOST, max(LEAST, EACH * n))
    own = in_own_units(fitted.system, schema, rows.table, n, 0.9, seed, samples, by_mask=False)
    if not (seen := observed_cells(rows.table)).all() and (effective := float(own["effective"][0])) < FEWEST:
        raise ValueError(
            f"given: expected values that go together in the model, got {_said(given)}, which leave {effective:.1f} "
            f"effective draws of {samples:,}; give fewer columns, or values nearer to the data."
        )
    drawn, raw = restore_dtypes(schema, torch.from_numpy(own["drawn"][:, 0])), rows_in_memory(rows.table.raw).numpy()
    far = _beyond(schema, raw[0], seen[0], fitted.drawn(LEAST))
    return GivenRows(np.where(seen, raw, drawn), float(own["effective"][0]), far)


def _beyond(schema: Schema, row: NDArray[Any], seen: NDArray[Any], drawn: NDArray[Any]) -> tuple[str, ...]:
    """Names of the columns that were given beyond all rows that the model draws."""
    outside = seen & ((row < drawn.min(0)) | (row > drawn.max(0)))
    return tuple(name for name, far in zip(schema.names, outside.tolist(), strict=True) if far)


def one_row(schema: Schema, given: Mapping[Any, Any]) -> Any:
    """A frame of one row in which only these columns are known.

    What belongs to rows and is not modelled is given, too: an exposure, covariates, and the known errors of the values
    that are given. The others are without error.

    Raises:
        DataError: data without columns, a column that the model does not see, a word where a number belongs, or
            something that belongs to a row and is not given.
    """
    if not schema.features:
        raise DataError("given: expected a run on a table, whose columns have names, got one on pictures.")
    columns = {column.name: column for column in schema.columns if column.is_feature or column.kind in BESIDE_X}
    told = {str(name): value for name, value in given.items()}
    for name in told:
        if schema.label is not None and name == schema.label.name and name not in columns:
            mend = f"fit with it as a feature: kind={{{name!r}: 'category'}} and no label"
            raise DataError(f"given: expected a feature, got the label {name!r}, which the model never sees; {mend}.")
        if name not in columns:
            raise DataError(f"given: expected columns out of {', '.join([*columns][:20])}, got {name!r}.")
    _check_known(columns.values(), told)
    return framed("pandas", {name: _cell(column, told) for name, column in columns.items()})


def _check_known(columns: Iterable[Column], told: Mapping[str, Any]) -> None:
    """Complain of what belongs to a row and is not given, and of errors without their values."""
    for column in columns:
        name = column.name
        if column.kind in ("exposure", "covariate") and name not in told:
            raise DataError(f"given: expected the {column.kind} {name!r} of the row, too, got none; give it a value.")
        if column.kind == "error" and (name in told) != (column.of in told):
            one, other = (name, column.of) if column.of in told else (column.of, name)
            raise DataError(f"given: expected {one!r} beside {other!r}, a value with its known error, got one of both.")


def _cell(column: Column, told: Mapping[str, Any]) -> NDArray[Any]:
    """A column of one row; nothing where no value is given."""
    name, there = column.name, column.name in told
    if column.vocabulary:
        return np.array([_word(column, told[name]) if there else None], dtype=object)
    return np.array([_number(name, told[name]) if there else np.nan])


def _word(column: Column, value: Any) -> str:
    known = column.vocabulary or ()
    if str(value) not in known:
        got = f"got {str(value)!r}"
        raise DataError(f"given: expected one of {', '.join(known[:20])} for column {column.name!r}, {got}.")
    return str(value)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"given: expected a number for column {name!r}, got {value!r}.") from None


def _said(given: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items())
