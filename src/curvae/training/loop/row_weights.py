"""Rows that count more than once, or less."""

from torch import Tensor

from curvae.data import ArrayTable
from curvae.typing import Batch


def mean_weight(table: ArrayTable) -> float | None:
    """How often a row of a table counts, on average; None where all count once."""
    known = table.context
    return None if known is None or known.weight is None else float(known.weight.double().mean())


def weighted(surrogate: Tensor, batch: Batch, mean: float | None) -> Tensor:
    """Each row's surrogate as often as the row counts, over how often a training row does on average.

    The gradient of the mean over the training rows is then that of these rows repeated, where weights are whole.
    """
    if mean is None or batch.context is None or batch.context.weight is None:
        return surrogate
    return surrogate * (batch.context.weight / mean).to(surrogate)
