"""Rows that stay in their file: read some at a time, as they are asked for, and never all at once."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

Read = Callable[[Tensor], Tensor]
HERE = torch.device("cpu")
LEAST = 2**24
"""Bytes from which rows stay in their file; fewer are as well read at once."""
MOST_AT_RANDOM = 2**30
"""Bytes up to which training takes them in any order, as memory keeps what was read; of more in shuffled blocks."""
WINDOW = 2**26
"""Bytes of the blocks that are shuffled together."""


@runtime_checkable
class RowSource(Protocol):
    """A file of rows."""

    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Of all rows."""
        ...

    @property
    def edges(self) -> Tensor:
        """The first row of each block, that which is read at a time."""
        ...

    def read(self, rows: Tensor | slice) -> Tensor:
        """Some rows, in that order."""
        ...

    def forget(self) -> None:
        """What was read is not asked for again soon."""
        ...


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows ``(N, *event)`` of a file, with as much of a tensor as data are asked for: shape, type and some rows.

    Args:
        source: the file.
        row: which of its rows, in ascending order; None = all.
        steps: what each part that is read goes through, one after the other; each acts on every row by itself.
        device: where parts come to.

    >>> class Numbers:
    ...     nbytes, edges = 80, torch.tensor([0, 5])
    ...     def __len__(self):
    ...         return 10
    ...     def read(self, rows):
    ...         return torch.arange(10.0)[rows].unsqueeze(1)
    ...     def forget(self):
    ...         pass
    >>> rows = StoredRows(Numbers()).through(lambda part: 2 * part).take(torch.tensor([1, 4, 7]))
    >>> rows.shape, rows[torch.tensor([2, 0])].flatten(), len(list(rows.split(2)))
    (torch.Size([3, 1]), tensor([14.,  2.]), 2)
    """

    source: RowSource
    row: Tensor | None = None
    steps: tuple[Read, ...] = ()
    device: torch.device = HERE

    def __len__(self) -> int:
        return len(self.source) if self.row is None else len(self.row)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        rows = rows.to("cpu") if isinstance(rows, Tensor) else rows
        part = self.source.read(rows if self.row is None else self.row[rows])
        for step in self.steps:
            part = step(part)
        return part.to(self.device)

    @cached_property
    def _example(self) -> Tensor:
        return self[:1]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self._example.shape[1:]))

    @property
    def ndim(self) -> int:
        return self._example.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self._example.dtype

    @property
    def nbytes(self) -> int:
        """What all rows would take in memory."""
        return len(self) * self._example[0].nbytes

    def is_floating_point(self) -> bool:
        return self._example.is_floating_point()

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in their order, so many at a time."""
        few = max(1, WINDOW * len(self) // (size * self.source.nbytes))
        for number, start in enumerate(range(0, len(self), size), 1):
            yield self[slice(start, start + size)]
            if number % few == 0:
                self.source.forget()
        self.source.forget()

    def take(self, rows: Tensor) -> "StoredRows":
        """Some of the rows, which stay in the file, too."""
        return replace(self, row=rows if self.row is None else self.row[rows])

    def through(self, step: Read) -> "StoredRows":
        """The same rows, each part that is read put through one more step."""
        return replace(self, steps=(*self.steps, step))

    def flatten(self, start: int) -> "StoredRows":
        """With the dimensions from that one on as a single one."""
        return self.through(lambda part: part.flatten(start))

    def to(self, device: torch.device | str) -> "StoredRows":
        """With parts that come to another device."""
        return replace(self, device=torch.device(device))

    def shuffled(self, generator: Generator) -> Tensor:
        """Each row once, in an order for training.

        Up to :data:`MOST_AT_RANDOM` bytes any order, which is that of a table in memory. Of more, blocks come in any
        order, and the rows of some that follow each other, of :data:`WINDOW` bytes together, are shuffled: so each
        block is read once, and all that is held is a window.
        """
        if self.source.nbytes <= MOST_AT_RANDOM:
            return torch.randperm(len(self), generator=generator)
        rows = torch.arange(len(self)) if self.row is None else self.row
        starts = torch.searchsorted(rows, self.source.edges).tolist()
        blocks = list(zip(starts, [*starts[1:], len(self)], strict=True))
        size = together(self.source)
        mixed = [blocks[number] for number in torch.randperm(len(blocks), generator=generator).tolist()]
        windows = [mixed[first : first + size] for first in range(0, len(mixed), size)]
        return torch.cat([_mixed(window, generator) for window in windows])


def together(source: RowSource) -> int:
    """How many blocks a window has."""
    return max(1, WINDOW * len(source.edges) // source.nbytes)


class BlockRows(ABC):
    """Rows of a file that is read block by block; implements :class:`RowSource`.

    The blocks that were asked for last are kept in one tensor, those of two windows, so that rows of several blocks are
    taken from it at once.

    Args:
        counts: rows of each block.
        event: shape of a row.
        dtype: as which blocks are kept.
        out: as which rows come out; None = as they are kept.
    """

    def __init__(self, counts: Sequence[int], event: Sequence[int], dtype: torch.dtype, out: torch.dtype | None = None):
        self.counts = torch.tensor(counts)
        self.event = tuple(event)
        self.dtype = dtype
        self.out = out or dtype
        self._edges = self.counts.cumsum(0) - self.counts
        self._shift = torch.zeros_like(self.counts)
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._blocks = torch.empty(0)

    @abstractmethod
    def block(self, number: int) -> Tensor:
        """The rows of a block, read anew."""

    def __len__(self) -> int:
        return int(self.counts.sum())

    @property
    def nbytes(self) -> int:
        return len(self) * prod(self.event) * self.dtype.itemsize

    @property
    def edges(self) -> Tensor:
        return self._edges

    def read(self, rows: Tensor | slice) -> Tensor:
        wanted = torch.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        number = torch.searchsorted(self.edges, wanted, right=True) - 1
        needed = number.unique().tolist()
        if len(needed) <= self._most:
            return self._taken(wanted, number, needed)
        found = torch.empty(len(wanted), *self.event, dtype=self.out)
        for first in range(0, len(needed), self._most):
            some = needed[first : first + self._most]
            here = torch.isin(number, torch.tensor(some))
            found[here] = self._taken(wanted[here], number[here], some)
        return found

    @property
    def _most(self) -> int:
        """How many blocks are kept."""
        return min(2 * together(self), len(self.counts))

    def _taken(self, wanted: Tensor, number: Tensor, needed: Sequence[int]) -> Tensor:
        """Rows of as many blocks as are kept."""
        for each in needed:
            if each in self._kept:
                self._kept.move_to_end(each)
        for each in needed:
            if each not in self._kept:
                self._keep(each)
        return self._blocks[wanted + self._shift[number]].to(self.out)

    def _keep(self, number: int) -> None:
        """Read a block, in place of that which was asked for least recently."""
        rows, size, count = self.block(number), int(self.counts.max()), int(self.counts[number])
        if not len(self._blocks):
            self._blocks = torch.empty(self._most * size, *self.event, dtype=self.dtype)
        place = len(self._kept) * size if len(self._kept) < self._most else self._kept.popitem(last=False)[1]
        self._blocks[place : place + count] = rows
        self._kept[number] = place
        self._shift[number] = place - self.edges[number]

    def forget(self) -> None:  # noqa: B027
        """Those that were asked for last may be asked for again."""


Raw = Tensor | StoredRows
"""Rows in memory, or in their file."""
if TYPE_CHECKING:
    Mask = Tensor
else:
    Mask = Raw
"""True where observed: with rows in a file it stays there, and is a tensor to all who ask for some of them."""


def _mixed(blocks: Sequence[tuple[int, int]], generator: Generator) -> Tensor:
    """The numbers in these ranges, in any order."""
    found = torch.cat([torch.arange(start, stop) for start, stop in blocks])
    return found[torch.randperm(len(found), generator=generator)]


def rows_in_memory(x: Raw) -> Tensor:
    """Rows in memory; of a file all are read."""
    return x[:] if isinstance(x, StoredRows) else x


def columns_at(x: Raw, places: Sequence[int]) -> Raw:
    """Some columns of a table."""
    chosen = list(places)
    return x.through(lambda part: part[:, chosen]) if isinstance(x, StoredRows) else x[:, chosen]


def single_column(x: Raw, place: int) -> Tensor:
    """One column of a table, in memory."""
    return torch.cat([part[:, place] for part in x.split(4096)]) if isinstance(x, StoredRows) else x[:, place]
