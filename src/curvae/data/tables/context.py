"""Columns that are no features, but what is known of each row: errors, exposure, weights, covariates."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.schema import BESIDE, Column
from curvae.data.tables.categories import column_numbers
from curvae.data.tables.columnar import Columnar
from curvae.io.reading import Reading
from curvae.typing import Context

ROLES = ("error", "exposure", "weight", "covariate")
"""Kinds of such columns."""
TOTAL = "total"
"""The exposure that is the sum of a row."""


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
    known = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
    raise DataError(f"{what}: expected the {column.kind} column {column.name!r} among {known or 'names'}, got none.")


def read_context(
    table: Columnar | None, what: str, columns: Sequence[Column], features: Sequence[Column], kinds: dict[str, str]
) -> tuple[Context | None, list[Column]]:
    """What is known of each row as it stands in a table, and its columns, categories with their words.

    Raises:
        DataError: an array without names, an error of no feature, or text where a number should be.
    """
    if not columns:
        return None, []
    beside = [column for column in columns if column.place != BESIDE]
    if table is None:
        if beside:
            names = ", ".join(column.name for column in beside)
            raise DataError(f"{what}: expected a frame or a file with the columns {names}, got an array without names.")
        return Context(), list(columns)
    known = [_read_as(column, table, kinds) for column in columns]
    found: dict[str, list[Tensor]] = {kind: [] for kind in ROLES}
    for j, column in enumerate(known):
        if column.place == BESIDE:
            continue
        as_feature = replace(column, kind="category" if column.vocabulary is not None else "count")
        numbers, (seen,) = column_numbers(table, [column.place], [_without_words(as_feature)])
        found[column.kind].append(torch.from_numpy(numbers[:, 0]))
        known[j] = replace(column, vocabulary=seen.vocabulary, dtype=table.dtype(column.place))
    errors = _errors(what, known, features, found["error"])
    single = [found[kind][0] if found[kind] else None for kind in ("exposure", "weight")]
    covariates = torch.stack(found["covariate"], 1) if found["covariate"] else None
    return Context(errors, single[0], covariates, single[1]), known


def _read_as(column: Column, table: Columnar, kinds: dict[str, str]) -> Column:
    """A covariate of words, or one that is said to be a category, has words: those of the run, or any."""
    if column.kind != "covariate" or column.vocabulary is not None or column.place == BESIDE:
        return column
    words = kinds.get(column.name) == "category" or table.values(column.place).dtype.kind not in "biuf"
    return replace(column, vocabulary=()) if words and column.center is None else column


def _without_words(column: Column) -> Column:
    """As it is read: a category whose words are not known yet has none."""
    return replace(column, vocabulary=None) if column.vocabulary == () else column


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


def with_context(what: str, rows: Rows, context: Context | None, columns: Sequence[Column]) -> Rows:
    """The rows with what is known of them, every value looked at; what is the total of a row is counted.

    Raises:
        DataError: an error that is negative or missing where its value is observed, an exposure that is not above 0, a
            negative weight, or a missing covariate.
    """
    if context is None:
        return rows
    errors, exposure, weight = context.errors, context.exposure, context.weight
    if any(column.kind == "exposure" and column.place == BESIDE for column in columns):
        exposure = rows.raw.double().flatten(1).sum(1)
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
    if context.covariates is not None:
        known = f"a value in each row of {', '.join(names['covariate'])}"
        _refuse(what, known, ~context.covariates.isfinite(), context.covariates)
    return rows._replace(context=replace(context, errors=errors, exposure=exposure))


def _refuse(what: str, known: str, bad: Tensor, values: Tensor) -> None:
    if bool(bad.any()):
        row, *_ = bad.nonzero()[0].tolist()
        raise DataError(f"{what}: expected {known}, got {float(values[bad][0]):g} in row {row}; leave that row out.")
