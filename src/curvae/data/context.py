"""What is known of rows and not modelled, from the data's own units to the model's."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from curvae.data.errors import DataError
from curvae.data.schema import Column
from curvae.data.transforms import Chain, Identity, MeanSubtraction, Scale, Standardization, Transform
from curvae.typing import Conditions, Context


def covariates_of(columns: Sequence[Column]) -> list[Column]:
    """The columns of covariates, in their order."""
    return [column for column in columns if column.kind == "covariate"]


def given_by(columns: Sequence[Column]) -> Conditions:
    """What a model of these columns is given.

    Example:
        >>> given_by([Column("u"), Column("u_err", "error", of="u"), Column("age", "covariate")])
        Conditions(errors=True, exposure=False, covariates=1)
    """
    kinds = {column.kind for column in columns}
    return Conditions(
        "error" in kinds, "exposure" in kinds, sum(len(each.vocabulary or "1") for each in covariates_of(columns))
    )


def with_units(columns: Sequence[Column], train: Context | None) -> tuple[Column, ...]:
    """The columns, with what training rows say of the units of exposures and of covariates that are numbers."""
    if train is None:
        return tuple(columns)
    found, number = [], 0
    for column in columns:
        if column.kind == "exposure" and train.exposure is not None:
            column = replace(column, scale=float(train.exposure.double().log().mean().exp()))
        elif column.kind == "covariate" and train.covariates is not None:
            if column.vocabulary is None:
                values = train.covariates[:, number].double()
                column = replace(column, center=float(values.mean()), scale=float(values.std(unbiased=False)) or 1.0)
            number += 1
        found.append(column)
    return tuple(found)


def in_model_units(context: Context | None, columns: Sequence[Column], transform: Transform) -> Context | None:
    """The same in float32: errors as the values are scaled, exposures over their training mean, categories one-hot.

    Raises:
        DataError: errors of data under a transform that is no scale.
    """
    if context is None:
        return None
    exposure, errors, covariates = context.exposure, context.errors, context.covariates
    if errors is not None:
        errors = scaled_errors(errors, transform).float()
    if exposure is not None:
        scale = next((each.scale for each in columns if each.kind == "exposure"), None)
        exposure = (exposure.double() / (scale or 1.0)).float()
    if covariates is not None:
        each = zip(covariates_of(columns), covariates.double().unbind(1), strict=True)
        covariates = torch.cat([_numbers(column, values) for column, values in each], 1).float()
    weight = None if context.weight is None else context.weight.float()
    return Context(errors, exposure, covariates, weight)


def _numbers(column: Column, values: Tensor) -> Tensor:
    if column.vocabulary is not None:
        return torch.nn.functional.one_hot(values.long(), len(column.vocabulary)).double()
    return ((values - (column.center or 0.0)) / (column.scale or 1.0)).unsqueeze(1)


def scaled_errors(errors: Tensor, transform: Transform, who: str = "errors") -> Tensor:
    """Standard deviations of values in the units that a transform gives these.

    Example:
        >>> scaled_errors(torch.ones(1), Chain(Scale(0.5), MeanSubtraction(torch.zeros(1))))
        tensor([0.5000])

    Raises:
        DataError: a transform that is no scale.
    """
    match transform:
        case Chain():
            for part in transform.parts:
                errors = scaled_errors(errors, part, who)
            return errors
        case Scale():
            return errors * transform.factor
        case Identity() | MeanSubtraction():
            return errors
        case Standardization():
            return errors / transform.scale.to(errors)
        case _:
            got = type(transform).__name__
            raise DataError(f"{who}: expected data as given, or standardized, got the transform {got}; leave it out.")
