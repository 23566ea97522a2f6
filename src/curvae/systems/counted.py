"""Rows as often as they count, for what is fitted in closed form."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae.typing import Batch, Table

TIMES = 16
"""Rows, over those of the table, up to which whole weights repeat them exactly."""


def counted(table: Table) -> Batch:
    """The rows of a table in one batch, each as often as its weight says; all of them once where there are none."""
    batch = Batch.of(table.x, table.mask, table.context)
    if table.context is None or table.context.weight is None:
        return batch
    return batch.take(repeated(table.context.weight))


def repeated(weight: Float[Tensor, " N"]) -> Int[Tensor, " M"]:
    """Numbers of rows, each as often as it counts: exactly for whole weights, else to the next of 1 / 16 of the mean.

    Example:
        >>> repeated(torch.tensor([2.0, 0.0, 1.0])).tolist(), len(repeated(torch.tensor([0.5, 1.5])))
        ([0, 0, 2], 32)
    """
    count, weight = len(weight), weight.double()
    if bool((weight == weight.round()).all()) and float(weight.sum()) <= TIMES * count:
        return torch.arange(count, device=weight.device).repeat_interleave(weight.long())
    ends = (weight.cumsum(0) / weight.sum() * TIMES * count).round().long()
    return torch.arange(count, device=weight.device).repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))
