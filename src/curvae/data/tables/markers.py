"""Numbers that stand for a missing value."""

from collections.abc import Sequence

import torch
from torch import Tensor

from curvae.data.text.numbers import MISSING, parse_number


def unmarked_tensor(x: Tensor, markers: Sequence[str]) -> Tensor:
    """With NaN in place of numbers that stand for a missing value."""
    declared = [found for each in markers if each.lower() not in MISSING and (found := parse_number(each)) is not None]
    if not declared:
        return x
    x = x if x.is_floating_point() else x.double()
    return torch.where(torch.isin(x, torch.tensor(declared, dtype=x.dtype)), torch.nan, x)
