"""Means over an epoch, summed on the device without waiting for it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Means:
    """Running means by name; a name without a value has the mean NaN.

    Example:
        >>> means = Means(["bound", "kl"])
        >>> means.add("bound", torch.tensor([1.0, 2.0])); means.add("bound", torch.tensor([6.0]))
        >>> means.read()
        {'bound': 3.0, 'kl': nan}
    """

    def __init__(self, names: Sequence[str]):
        self._sums: dict[str, Tensor | float] = dict.fromkeys(names, 0.0)
        self._counts = dict.fromkeys(names, 0)

    def add(self, name: str, values: Tensor) -> None:
        """Take every element of ``values`` into the mean."""
        self._sums[name] = self._sums[name] + values.detach().float().sum()
        self._counts[name] += values.numel()

    def read(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """The means; ``reduce`` sums a tensor over all processes."""
        device = next((each.device for each in self._sums.values() if isinstance(each, Tensor)), None)
        sums = torch.stack([torch.as_tensor(each, device=device) for each in self._sums.values()])
        both = torch.stack([sums, torch.tensor(list(self._counts.values()), dtype=sums.dtype, device=device)])
        totals, counts = (both if reduce is None else reduce(both)).tolist()
        return {
            name: total / count if count else math.nan
            for name, total, count in zip(self._sums, totals, counts, strict=True)
        }
