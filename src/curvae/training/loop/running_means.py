"""Means over the rows or the steps of an epoch, summed on the device without waiting for it."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae.curvature import not_ok
from curvae.objectives import Bound
from curvae.training.run.metrics import Row


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
        self._counts: dict[str, Tensor | int | float] = dict.fromkeys(names, 0)

    def add(
        self, name: str, values: Tensor, keep: Bool[Tensor, ""] | None = None, weight: Tensor | None = None
    ) -> None:
        """Take every element of ``values`` into the mean; none of them where ``keep``, on the device, is False.

        Each counts as often as its ``weight`` says.
        """
        values, count = values.detach().float(), values.numel()
        if weight is not None:
            values, count = values * weight.float(), weight.float().sum()
        total = values.sum()
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


class EpochMeans:
    """Training means of an epoch: the bound, the gradient's norm, and each number of ``Bound.info``.

    An entry of the information is one number a row, and its mean that of the rows; or one a batch, and its mean that of
    the batches. Of the status the share of rows that are not ok is reported.
    """

    def __init__(self):
        self.own = Means(("bound", "grad_norm", "not_ok"))
        self.info = Means()

    def add(
        self, bound: Bound, norm: Float[Tensor, ""], rows: bool = True, keep: Bool[Tensor, ""] | None = None
    ) -> None:
        """Book a step.

        Args:
            bound: of the batch.
            norm: of the gradient.
            rows: False where the batch stands in for none, in a process that has no part of it.
            keep: where False, on the device, the step was skipped.
        """
        self.own.add("grad_norm", norm, keep)
        for name, value in numbers_to_log(bound).items():
            self.info.add(name, value if rows else value.new_zeros(0), keep)
        if rows:
            self.own.add("bound", bound.value, keep)
            if "status" in bound.info:
                self.own.add("not_ok", not_ok(bound.info["status"]), keep)

    def row(self, stage: str, reduce: Callable[[Tensor], Tensor]) -> Row:
        """The epoch's row of metrics, as far as training knows it; ``reduce`` sums a tensor over all processes."""
        own, info = self.own.read(reduce), self.info.read(reduce)
        return Row(
            stage,
            train_bound=own["bound"],
            grad_norm=own["grad_norm"],
            not_ok=own["not_ok"],
            kl=info.pop("kl", math.nan),
            info=info,
        )


def numbers_to_log(bound: Bound) -> dict[str, Tensor]:
    """What of a bound's information is one number a row, or one a batch; the status is reported as a share.

    Example:
        >>> info = {"kl": torch.ones(2), "status": torch.zeros(2), "energy": torch.ones(5, 2)}
        >>> list(numbers_to_log(Bound(torch.zeros(2), torch.zeros(2), info)))
        ['kl']
    """
    shapes = (bound.value.shape, torch.Size())
    return {name: value for name, value in bound.info.items() if value.shape in shapes and name != "status"}
