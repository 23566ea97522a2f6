"""The shape vocabulary and the values that every layer passes on. No logic.

Letters, everywhere in the package: ``S`` draws, ``B`` batch, ``D`` latent dimensions, ``P`` decoder
outputs (flat), ``K`` components, ``H`` hidden width, ``N`` rows of a table, ``T`` steps of a search.
Draws come first, events last. All log-densities and bounds are in nats.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Info = Mapping[str, Tensor]
"""Diagnostics, detached: nothing trains on them or reads them back."""

State = Mapping[str, Tensor]
"""New values of a module's own buffers, by buffer name; the trainer writes them after a finite step."""

EMPTY: Mapping[str, Any] = MappingProxyType({})

Latent = Float[Tensor, "*S B D"]
PerDraw = Float[Tensor, "S B"]
PerDatum = Float[Tensor, " B"]
Matrix = Float[Tensor, "B D D"]

Support = Literal["real", "positive", "count", "binary", "category", "mixed"]
Noise = Literal["shared", "element"]
"""What the values of an example are: decides the default likelihood, nothing else."""


class Batch(NamedTuple):
    """What a system sees of the data at once."""

    x: Shaped[Tensor, "B *event"]
    """Finite everywhere: 0 where ``mask`` is False."""
    index: Int[Tensor, " B"]
    """Row of the training table; -1 = not in it (validation, test, a user's example)."""
    mask: Shaped[Tensor, "B *event"] | None = None
    """True = observed; None = all observed."""
    label: Shaped[Tensor, " B"] | None = None
    """For evaluation only, unless a system says otherwise."""

    @classmethod
    def of(cls, x: Tensor, mask: Tensor | None = None) -> "Batch":
        """Data that are not in the training table."""
        return cls(x, torch.full((len(x),), -1, device=x.device), mask)


class DataSpec(NamedTuple):
    """What a system must know of a data set before it sees any of it."""

    event: tuple[int, ...]
    """Shape of one example: ``(features,)`` for a table, ``(channels, height, width)`` for images."""
    support: Support = "real"
    categories: int = 2
    """Number of categories of each element; read only where ``support`` is ``"category"``."""
    name: str = "array"
    noise: Noise = "shared"
    """Whether real data have one noise variance for all elements, or one for each: columns with units of their own."""
    kinds: tuple[str, ...] = ()
    """Of mixed data the kind of each column: real, positive, count, binary, ``category:K`` or ``ordinal:K``."""

    def groups(self) -> dict[tuple[str, int], list[int]]:
        """Of mixed data the columns of each kind, and its number of categories, 2 where there are none.

        >>> DataSpec((3,), "mixed", kinds=("real", "category:4", "real")).groups()
        {('real', 2): [0, 2], ('category', 4): [1]}
        """
        found: dict[tuple[str, int], list[int]] = {}
        for column, word in enumerate(self.kinds):
            kind, _, count = word.partition(":")
            found.setdefault((kind, int(count or 2)), []).append(column)
        return found


@runtime_checkable
class Table(Protocol):
    """Rows of data in model space."""

    @property
    def x(self) -> Shaped[Tensor, "N *event"]: ...
    @property
    def mask(self) -> Shaped[Tensor, "N *event"] | None: ...
    @property
    def label(self) -> Shaped[Tensor, " N"] | None: ...
    def __len__(self) -> int: ...


@runtime_checkable
class Tables(Protocol):
    """What ``Stage.prepare`` and ``Stage.finish`` may read: the data that a run is trained and judged on."""

    @property
    def train(self) -> Table: ...
    @property
    def validation(self) -> Table: ...


@runtime_checkable
class Remembers(Protocol):
    """A module that keeps a state for each training example: some of its buffers have a row for each of them.

    They are empty until :meth:`remember`; the trainer writes the rows of a batch at ``Batch.index``.
    """

    per_example: tuple[str, ...]
    """Names of these buffers."""

    def remember(self, rows: int, prior: Any) -> None:
        """Make room for so many training examples with latents under this prior; no state is known yet."""
        ...
