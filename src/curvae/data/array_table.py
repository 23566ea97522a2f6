"""A table of data, in memory or in a file: rows to batches without a loop, a copy or a worker process."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Int, Shaped
from torch import Generator, Tensor

from curvae.data.errors import DataError
from curvae.data.stored import Mask, Raw, StoredRows
from curvae.data.transforms import Identity, Transform
from curvae.data.transforms.base import FIXED_NOISE
from curvae.data.validation import check_finite
from curvae.memory import require_bytes
from curvae.typing import Batch, Context

AS_GIVEN = Identity()
SAMPLE = 2**20
"""Numbers of a table in a file that are taken into memory at once."""


@dataclass(frozen=True, eq=False)
class ArrayTable:
    """Raw data ``(N, *event)`` with their transform, labels and mask; implements :class:`curvae.typing.Table`.

    Args:
        raw: data in their own units, any dtype; may be NaN where ``mask`` is False. Those that stay in their file are
            read and transformed as they are asked for.
        transform: raw units to model space.
        label: ``(N,)``.
        mask: ``(N, *event)``, True = observed.
        training: whether this is the training table, whose batches carry their row numbers.
        row: ``(N,)``, the place of each in the file or array that it was taken from, from 0.
        context: what is known of each row and not modelled, in the model's units.
        whole: how many rows there are of which these are some; 0 = these are all.

    Raises:
        DataError: lengths or shapes differ, or an observed value is not finite.

    >>> table = ArrayTable(torch.arange(6.0).reshape(3, 2), training=True)
    >>> table.batch(torch.tensor([2, 0])).x
    tensor([[4., 5.],
            [0., 1.]])
    """

    raw: Raw
    transform: Transform = AS_GIVEN
    label: Tensor | None = None
    mask: Mask | None = None
    training: bool = False
    row: Tensor | None = None
    context: Context | None = None
    whole: int = 0

    def __post_init__(self):
        if self.label is not None and len(self.label) != len(self.raw):
            raise DataError(f"label: expected {len(self.raw)} rows as in raw, got {len(self.label)}; pass one a row.")
        if self.context is not None and len(self.context) != len(self.raw):
            raise DataError(f"context: expected {len(self.raw)} rows as in raw, got {len(self.context)}.")
        if self.mask is not None and (self.mask.shape != self.raw.shape or self.mask.dtype != torch.bool):
            got = f"{self.mask.dtype} {tuple(self.mask.shape)}"
            raise DataError(f"mask: expected bool of shape {tuple(self.raw.shape)} as raw, got {got}; True = observed.")
        if isinstance(self.raw, StoredRows):  # whose values were looked at when it was opened
            return
        if isinstance(self.mask, Tensor):
            object.__setattr__(self, "raw", torch.where(self.mask, self.raw, 0))
        if self.raw.is_floating_point() and not self.raw.sum(dtype=torch.float64).isfinite():
            if not (count := int((~self.raw.isfinite()).sum())):
                return
            raise DataError(f"raw: expected finite values, got {count} NaN or infinite; pass a mask, False there.")

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def x(self) -> Shaped[Tensor, "N *event"]:
        """The whole table in model space, 0 where not observed; with the same noise every time if random."""
        return self.in_memory()._whole if isinstance(self.raw, StoredRows) else self._whole

    @cached_property
    @torch.inference_mode(False)  # kept beyond the validation that may be the first to ask
    def _whole(self) -> Tensor:
        assert isinstance(self.raw, Tensor)
        generator = torch.Generator(self.raw.device).manual_seed(FIXED_NOISE) if self.transform.random else None
        x = self._filled(self.transform(self.raw, generator), self.mask)
        check_finite("raw", x)
        return x

    def batch(self, index: Int[Tensor, " B"], generator: Generator | None = None, training: bool = False) -> Batch:
        """The rows at ``index`` as a :class:`curvae.typing.Batch`, on the table's device.

        Where the transform is random, noise is fresh if ``training`` or a ``generator`` is given; otherwise it
        is that of :attr:`x`, so that evaluation sees the same data however they are batched.
        """
        index = index.to(self.raw.device)
        mask = None if self.mask is None else self.mask[index]
        label = None if self.label is None else self.label[index]
        context = None if self.context is None else self.context[index]
        if isinstance(self.raw, StoredRows) or (self.transform.random and (training or generator is not None)):
            x = self._filled(self.transform(self.raw[index], generator), mask)
        else:
            x = self._whole[index]
        return Batch(x, index if self.training else torch.full_like(index, -1), mask, label, context)

    def batches(self, size: int, index: Int[Tensor, " N"] | None = None) -> Iterator[Batch]:
        """The rows at ``index``, by default all, some at a time."""
        return map(self.batch, (torch.arange(len(self)) if index is None else index).split(size))

    def take(self, index: Int[Tensor, " B"]) -> "ArrayTable":
        """The rows at ``index``, which are no training rows."""
        parts = {name: getattr(self, name) for name in ("raw", "label", "mask", "row")}
        taken = {name: part[index] for name, part in parts.items() if part is not None}
        context = None if self.context is None else self.context[index]
        return replace(self, **taken, training=False, context=context)

    @property
    def total(self) -> int:
        """Rows of the table, or of that in a file of which these are some."""
        return self.whole or len(self)

    @property
    def sample(self) -> "ArrayTable":
        """In memory; of a table in a file rows at even distances, of :data:`SAMPLE` numbers at most, read anew."""
        if not isinstance(self.raw, StoredRows):
            return self
        return self._read(min(len(self), max(1, SAMPLE // self.raw.shape[1:].numel())))

    def in_memory(self) -> "ArrayTable":
        """All rows in memory.

        Raises:
            DataError: there is no room for them.
        """
        if not isinstance(self.raw, StoredRows):
            return self
        _require_room(self.raw)
        return self._read(len(self))

    def _read(self, count: int) -> "ArrayTable":
        """So many rows of a file, at even distances."""
        assert isinstance(self.raw, StoredRows)
        found = self.take(torch.linspace(0, len(self) - 1, count, dtype=torch.float64).round().long())
        self.raw.source.forget()
        return replace(found, training=self.training, whole=len(self))

    def to(self, device: torch.device | str) -> "ArrayTable":
        """The same table on another device."""
        parts = {name: getattr(self, name) for name in ("raw", "label", "mask", "row")}
        moved = {name: part.to(device) for name, part in parts.items() if part is not None}
        context = None if self.context is None else self.context.map(lambda part: part.to(device))
        return replace(self, **moved, context=context)

    def __repr__(self) -> str:
        parts = [f"{len(self):,} x {tuple(self.raw.shape[1:])}"]
        parts += ["labeled"] * (self.label is not None) + ["masked"] * (self.mask is not None)
        return f"ArrayTable({', '.join(parts)})"

    @staticmethod
    def _filled(x: Tensor, mask: Mask | None) -> Tensor:
        return x if not isinstance(mask, Tensor) else torch.where(mask, x, 0)


def _require_room(rows: StoredRows) -> None:
    try:
        require_bytes(rows.nbytes, "rows of a file", "all of them", "ask for fewer rows")
    except ValueError as error:
        raise DataError(str(error)) from None
