"""The rows of a table in batches: in memory, in a seeded order, shared out among the processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from curvae.data import ArrayTable
from curvae.data.stored import StoredRows
from curvae.training.setup.settings import derive
from curvae.typing import Batch

ORDER, DATA_NOISE = 1, 2
"""Streams of random numbers, beside the training noise (see ``lightning_module``)."""
VALIDATION_ROWS = 512
"""Least number of rows in a batch of the validation part."""


class Shard(NamedTuple):
    """One process's part of a global batch."""

    batch: Batch
    share: float
    """Its rows, times the number of processes, over the global batch's rows: the weight of its mean. 0 = only a
    stand-in, where the last global batch has fewer than two rows for each process."""


@dataclass(frozen=True)
class Batches:
    """Global batches of ``size`` rows of a table, of which this process takes its part.

    Args:
        table: on the device already.
        size: rows of a global batch, see :func:`sizes`.
        seed: of order and data noise.
        epoch: the current epoch's number, asked at the start of each; None = in the table's order, without noise.
        process: the number of this one, and how many there are.
        passes: over the table, one after the other; each has an order and noise of its own.
        stop: asked before each batch with the number of those that came; True ends it.
    """

    table: ArrayTable
    size: int
    seed: int = 0
    epoch: Callable[[], int] | None = None
    process: tuple[int, int] = (0, 1)
    passes: int = 1
    stop: Callable[[int], bool] = lambda count: False

    def __iter__(self) -> Iterator[Shard]:
        first = None if self.epoch is None else self.epoch()
        count = 0
        for number in range(self.passes):
            order, noise = self._drawn(None if first is None else first + number)
            for rows in order.split(sizes(len(self.table), self.size)):
                if self.stop(count):
                    return
                count += 1
                mine, share = rank_part(rows, *self.process)
                yield Shard(self.table.batch(mine, noise), share)

    def _drawn(self, epoch: int | None) -> tuple[Tensor, Generator | None]:
        """Order of the rows, and where the noise of the data comes from."""
        device = self.table.raw.device
        if epoch is None:
            return torch.arange(len(self.table), device=device), None
        generator, raw = Generator().manual_seed(derive(self.seed, ORDER, epoch)), self.table.raw
        stored = isinstance(raw, StoredRows)
        order = raw.shuffled(generator) if stored else torch.randperm(len(self.table), generator=generator)
        return order.to(device), Generator(device).manual_seed(derive(self.seed, DATA_NOISE, epoch, self.process[0]))


def sizes(rows: int, size: int) -> list[int]:
    """Rows of each batch of a table: ``size``, and what is left in the last one.

    A single row that is left joins the batch before it: there is no variance in one row for a network to normalize by.

    Example:
        >>> sizes(10, 4), sizes(9, 4), sizes(1, 4), sizes(3, 1)
        ([4, 4, 2], [4, 5], [1], [1, 1, 1])
    """
    whole, left = divmod(rows, size)
    if left == 1 and whole and size > 1:
        return [size] * (whole - 1) + [size + 1]
    return [size] * whole + [left] * (left > 0)


def rank_part(rows: Tensor, rank: int, world: int) -> tuple[Tensor, float]:
    """This process's rows of a global batch, two or more where there are so many, and the weight of their mean.

    Example:
        >>> rank_part(torch.arange(5), 0, 2), rank_part(torch.arange(3), 1, 2)
        ((tensor([0, 1, 2]), 1.2), (tensor([0, 1]), 0.0))
    """
    if world == 1:
        return rows, 1.0
    parts = rows.tensor_split(min(world, max(1, len(rows) // 2)))
    if rank >= len(parts):
        return rows[:2], 0.0
    return parts[rank], len(parts[rank]) * world / len(rows)
