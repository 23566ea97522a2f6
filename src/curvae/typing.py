"""The shape vocabulary and the values that every layer passes on. No logic.

Letters, everywhere in the package: ``S`` draws, ``B`` batch, ``D`` latent dimensions, ``P`` decoder
outputs (flat), ``K`` components, ``H`` hidden width, ``N`` rows of a table, ``T`` steps of a search.
Draws come first, events last. All log-densities and bounds are in nats.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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


@dataclass(frozen=True, eq=False)
class Context:
    """What is known of each row and is not modelled itself; it travels with the rows, in the model's units.

    Example:
        >>> context = Context(exposure=torch.tensor([1.0, 2.0, 4.0]))
        >>> context[1:].exposure.tolist(), context.is_given, Context(weight=torch.ones(3)).is_given
        ([2.0, 4.0], True, False)
    """

    errors: Float[Tensor, "B *event"] | None = None
    """Known standard deviation of each value, 0 or more."""
    exposure: Float[Tensor, " B"] | None = None
    """What the mean of a count is in proportion to: library size, area, time."""
    covariates: Float[Tensor, "B C"] | None = None
    """Numbers and categories, one-hot, that encoder and decoder are given."""
    weight: Float[Tensor, " B"] | None = None
    """How often a row counts."""

    @property
    def is_given(self) -> bool:
        """Whether it holds more than weights, which no density depends on."""
        return not (self.errors is None and self.exposure is None and self.covariates is None)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Context":
        """The same of each of its parts."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        return Context(**{name: None if part is None else function(part) for name, part in parts.items()})

    def __getitem__(self, rows: Any) -> "Context":
        return self.map(lambda part: part[rows])

    def __len__(self) -> int:
        return next((len(part) for each in fields(self) if (part := getattr(self, each.name)) is not None), 0)


class Conditions(NamedTuple):
    """What a model is given of each row, beside the row itself."""

    errors: bool = False
    exposure: bool = False
    covariates: int = 0
    """C, how many numbers."""

    @property
    def said(self) -> str:
        """In words, joined; empty for nothing."""
        words = {"errors": self.errors, "exposure": self.exposure, "covariates": self.covariates}
        return ", ".join(word for word, there in words.items() if there)


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
    context: Context | None = None
    """What is known of each row and is not modelled."""

    @classmethod
    def of(cls, x: Tensor, mask: Tensor | None = None, context: Context | None = None) -> "Batch":
        """Data that are not in the training table."""
        return cls(x, torch.full((len(x),), -1, device=x.device), mask, context=context)

    @property
    def given(self) -> Context | None:
        """The context, where it holds more than weights; else none."""
        return self.context if self.context is not None and self.context.is_given else None

    def take(self, rows: Any) -> "Batch":
        """Some of the rows."""
        return Batch(*(None if part is None else part[rows] for part in self))  # pyright: ignore[reportArgumentType]


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
    given: Conditions = Conditions()
    """What is known of each row beside it."""

    def to_dict(self) -> dict[str, Any]:
        """Names and values, those of ``given`` too: what a file says, and :meth:`from_dict` reads."""
        return {**self._asdict(), "given": self.given._asdict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """What :meth:`to_dict` gave, or an earlier version that knew of less.

        >>> DataSpec.from_dict({"event": [3], "support": "count"}).event
        (3,)
        """
        given = Conditions(**values.get("given", {}))
        return cls(
            **{**values, "event": tuple(values["event"]), "kinds": tuple(values.get("kinds", ())), "given": given}
        )

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
    @property
    def context(self) -> Context | None: ...
    @property
    def total(self) -> int:
        """Rows of the table, or of the larger one of which these are some."""
        ...

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


@runtime_checkable
class HoldsBatch(Protocol):
    """A module that goes on with the batch at hand in the next step: some of its buffers hold it, and nothing is saved.

    Each process has its own; the trainer replaces them whole, whatever their shape.
    """

    per_batch: tuple[str, ...]
    """Names of these buffers."""
