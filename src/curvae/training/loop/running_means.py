"""Means over an epoch, summed on the device without waiting for it."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


class Means:
    """Running means by name; a name without a value has the mean NaN, a new one joins where it is added.

    Example:
        >>> means = Means(["bound", "kl"])
        >>> means.add("bound", torch.tensor([1.0, 2.0])); means.add("bound", torch.tensor([6.0]))
        >>> means.read()
        {'bound': 3.0, 'kl': nan}
    """

    def __init__(self, names: Sequence[str] = ()):
        self._sums: dict[str, Tensor | float] = dict.fromkeys(names, 0.0)
        self._counts: dict[str, Tensor | int] = dict.fromkeys(names, 0)

    def add(self, name: str, values: Tensor, keep: Bool[Tensor, ""] | None = None) -> None:
        """Take every element of ``values`` into the mean; none of them where ``keep``, on the device, is False."""
        total, count = values.detach().float().sum(), values.numel()
        if keep is not None:
            total, count = torch.where(keep, total, 0.0), keep * count
        self._sums[name] = self._sums.get(name, 0.0) + total
        self._counts[name] = self._counts.get(name, 0) + count

    def read(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """The means; ``reduce`` sums a tensor over all processes."""
        if not self._sums:
            return {}
        device = next((each.device for each in self._sums.values() if isinstance(each, Tensor)), None)
        rows = (self._sums.values(), self._counts.values())
        both = torch.stack(
            [torch.stack([torch.as_tensor(each, dtype=torch.float32, device=device) for each in row]) for row in rows]
        )
        totals, counts = (both if reduce is None else reduce(both)).tolist()
        return {
            name: total / count if count else math.nan
            for name, total, count in zip(self._sums, totals, counts, strict=True)
        }
