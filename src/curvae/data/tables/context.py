"""Columns that are no features, but what is known of each row: errors, exposure, weights, covariates."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.schema import BESIDE, Column
from curvae.data.stored import StoredRows, rows_in_memory
from curvae.data.tables.categories import column_numbers, word_codes
from curvae.data.tables.columnar import Columnar, MatrixColumns
from curvae.data.tables.markers import unmarked_tensor
from curvae.io.reading import Reading
from curvae.typing import Context

ROLES = ("error", "exposure", "weight", "covariate")
"""Kinds of such columns."""
TOTAL = "total"
"""The exposure that is the sum of a row."""


def names_of_roles(columns: Sequence[Column]) -> list[str]:
    """What a file is to have beside its features."""
    return [column.name for column in columns if column.kind in ROLES]


def numbered_table(what: str, x: Tensor) -> MatrixColumns | None:
    """An array as a table whose columns are called by their numbers, where it is one."""
    return MatrixColumns(what, x.cpu().numpy()) if x.ndim == 2 else None


def role_columns(what: str, header: Sequence[str], reading: Reading) -> list[Column]:
    """The columns that are said to be known of each row.

    Raises:
        DataError: there is none of that name, or one that is said twice.
    """
    said = [Column(name, "error", of=feature) for feature, name in reading.errors_of.items()]
    exposure = reading.exposure
    said += [] if exposure is None else [Column(str(exposure), "exposure")]
    said += [] if reading.weights is None else [Column(str(reading.weights), "weight")]
    said += [Column(str(name), "covariate") for name in reading.covariates or ()]
    names = [column.name for column in said]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{what}: expected {twice[0]!r} in one place of errors, exposure, weights and covariates.")
    return [placed(what, header, column) for column in said]


def placed(what: str, header: Sequence[str], column: Column) -> Column:
    if column.name in header:
        return replace(column, place=list(header).index(column.name))
    if column.kind == "exposure" and column.name == TOTAL:
        return replace(column, place=BESIDE)
    known = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "") or "columns of a table"
    raise DataError(f"{what}: expected the {column.kind} column {column.name!r} among {known}, got none.")


def read_known(
    table: Columnar | None, what: str, columns: Sequence[Column], features: Sequence[Column]
) -> Context | None:
    """What is known of further rows, by the columns of a run; weights may be absent, as p(x) does not depend on them.

    Raises:
        DataError: as :func:`read_context`, or one of the others is absent.
    """
    header = [] if table is None else table.header
    needed = [each for each in columns if each.kind in ROLES and (each.kind != "weight" or each.name in header)]
    return read_context(table, what, [placed(what, header, column) for column in needed], features, {})[0]


def read_context(
    table: Columnar | None, what: str, columns: Sequence[Column], features: Sequence[Column], kinds: dict[str, str]
) -> tuple[Context | None, list[Column]]:
    """What is known of each row as it stands in a table, and its columns, categories with their words.

    Raises:
        DataError: an error of no feature, or text where a number should be.
    """
    if not columns:
        return None, []
    known, found = list(columns), {kind: list[Tensor]() for kind in ROLES}
    for j, column in enumerate(columns):
        if column.place != BESIDE:
            assert table is not None
            numbers, words = _values(table, column, kinds.get(column.name) == "category")
            found[column.kind].append(torch.from_numpy(numbers))
            known[j] = replace(column, vocabulary=words, dtype="int64" if words else table.dtype(column.place))
    errors = _errors(what, known, features, found["error"])
    single = [found[kind][0] if found[kind] else None for kind in ("exposure", "weight")]
    covariates = torch.stack(found["covariate"], 1) if found["covariate"] else None
    return Context(errors, single[0], covariates, single[1]), known


def _values(table: Columnar, column: Column, coded: bool) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Its numbers; of a covariate that is one of words, or said to be a category, codes and the words."""
    new = column.kind == "covariate" and column.center is None and (coded or table.in_words(column.place))
    if new or column.vocabulary is not None:
        codes, seen = word_codes(table, column.place, column)
        return codes, seen.vocabulary
    numbers, _ = column_numbers(table, [column.place], [replace(column, kind="count")])
    return (numbers[:].numpy() if isinstance(numbers, StoredRows) else numbers)[:, 0], None


def _errors(
    what: str, columns: Sequence[Column], features: Sequence[Column], values: Sequence[Tensor]
) -> Tensor | None:
    """Those of each feature, 0 of one that has none."""
    names, pairs = [column.name for column in features], [each for each in columns if each.kind == "error"]
    if not pairs:
        return None
    if unknown := [each for each in pairs if each.of not in names]:
        raise DataError(f"{what}: errors: expected those of features, got {unknown[0].of}={unknown[0].name}.")
    found = torch.zeros(len(values[0]), len(features), dtype=torch.float64)
    for column, each in zip(pairs, values, strict=True):
        found[:, names.index(str(column.of))] = each
    return found


def with_context(
    what: str, rows: Rows, context: Context | None, columns: Sequence[Column], markers: Sequence[str] = ()
) -> Rows:
    """The rows with what is known of them, every value looked at; what is the total of a row is counted.

    Args:
        what: how messages name the rows.
        rows: the features.
        context: as it stands in the table.
        columns: that are known of each row, among others.
        markers: what stands for a missing value.

    Raises:
        DataError: an error that is negative or missing where its value is observed, an exposure that is not above 0 or
            the total of a row that is not whole, a negative weight, or a missing covariate.
    """
    if context is None:
        return rows
    errors, exposure, weight = context.errors, context.exposure, context.weight
    if exposure is None and any(column.kind == "exposure" for column in columns):
        exposure = _total(what, rows)
    names = {kind: [column.name for column in columns if column.kind == kind] for kind in ROLES}
    if errors is not None:
        errors = errors.reshape(rows.raw.shape)
        errors = errors if rows.mask is None else torch.where(rows.mask, errors, 0.0)
        _refuse(what, "errors of 0 or more where the value is observed", ~((errors >= 0) & errors.isfinite()), errors)
    if exposure is not None:
        known = f"an exposure above 0 in {names['exposure'][0]!r}"
        _refuse(what, known, ~((exposure > 0) & exposure.isfinite()), exposure)
    if weight is not None:
        _refuse(what, f"a weight of 0 or more in {names['weight'][0]!r}", ~((weight >= 0) & weight.isfinite()), weight)
        if not bool((weight > 0).any()):
            raise DataError(f"{what}: expected a weight above 0 in {names['weight'][0]!r}, got none.")
    if (covariates := context.covariates) is not None:
        words = [column.vocabulary is not None for column in columns if column.kind == "covariate"]
        covariates = torch.where(torch.tensor(words), covariates, unmarked_tensor(covariates, markers))
        known = f"a value in each row of {', '.join(names['covariate'])}"
        _refuse(what, known, ~covariates.isfinite(), covariates)
    return rows._replace(context=Context(errors, exposure, covariates, weight))


def _total(what: str, rows: Rows) -> Tensor:
    """The sum of each row."""
    if rows.mask is not None and not bool(rows.mask.all()):
        row = int((~rows.mask).nonzero()[0, 0])
        mend = f"add a column {TOTAL!r} with it"
        raise DataError(
            f"{what}: exposure: expected rows whose total is known, got a missing value in row {row}; {mend}."
        )
    return rows_in_memory(rows.raw).double().flatten(1).sum(1)


def _refuse(what: str, known: str, bad: Tensor, values: Tensor) -> None:
    if bool(bad.any()):
        row, *_ = bad.nonzero()[0].tolist()
        raise DataError(f"{what}: expected {known}, got {float(values[bad][0]):g} in row {row}; leave that row out.")
