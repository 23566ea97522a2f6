"""What the tests of given rows have in common: their door, their result, and data with the same values missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Generator, Tensor

from curvae.argument_checks import check_counts
from curvae.evaluation.draws import seeded_evaluation
from curvae.io.typed import Range, Share
from curvae.memory import blocks
from curvae.model import LatentVariableModel, require_continuous, require_unconditional
from curvae.systems import HasModel, Parts, System, require
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

LEAST = 1e-12
"""Spreads below it are none."""
FLOOR = 0.1
"""The least spread of an element of x that counts, in that of all: elements that hardly vary do not outweigh others."""


@dataclass(frozen=True)
class RowTest:
    """A p-value for each of N given rows, and one for all of them.

    Example:
        >>> found = RowTest((0.5, 0.01, 0.2), 0.03, 1000)
        >>> found.below(0.05), found
        (1, RowTest(p_values=(0.5, 0.01, 0.2), p_value=0.03, count=1000))
    """

    p_values: tuple[Share, ...]
    """Of each row by itself; uniform or larger where nothing is wrong."""
    p_value: Share
    """Of all rows together."""
    count: Annotated[int, Range(1, 10**9)]
    """Data drawn from the model for it."""

    def below(self, level: float) -> int:
        """How many rows have a p-value of ``level`` or less; N times ``level`` of them by chance."""
        return sum(p <= level for p in self.p_values)


@contextmanager
def given_rows(
    who: str, system: System, x: Tensor, mask: Tensor | None, seed: int, **counts: int
) -> Iterator[tuple[Parts, Batch, Generator]]:
    """The parts of a system that stays as it was, rows as it takes them, and noise where it is.

    Raises:
        ValueError: a system without a model (HasModel) of continuous latents, no rows, rows of another shape, or counts
            below 1.
    """
    check_counts(who, **counts)
    parts = require(system, HasModel, who).parts()
    require_continuous(parts.model, who)
    require_unconditional(parts.model, who)
    event = parts.model.likelihood.event
    if len(x) == 0 or x[0].numel() != torch.Size(event).numel():
        raise ValueError(f"{who}: x must be 1 or more rows of shape {tuple(event)}; got {tuple(x.shape)}.")
    seen = x if mask is None else torch.where(mask, x, torch.zeros_like(x))
    if not bool(torch.isfinite(seen).all()):
        raise ValueError(f"{who}: x must be finite where it is observed; pass a mask that is False at missing values.")
    given = Batch.of(seen.reshape(-1, *event), None if mask is None else mask.reshape(-1, *event))
    with seeded_evaluation(system, seed) as generator:
        yield parts, batch_to_system(system, given), generator


def simulated(model: LatentVariableModel, n: int, given: Batch, generator: Generator) -> tuple[Batch, Tensor]:
    """``n`` draws of the model with the values missing that one of the given rows lacks, each; and their latents."""
    x, z = model.sample(n, generator)
    if given.mask is None:
        return Batch.of(x), z
    chosen = torch.randint(len(given.mask), (n,), generator=generator, device=x.device)
    mask = given.mask[chosen]
    return Batch.of(torch.where(mask, x, torch.zeros_like(x)), mask), z


def pieces(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch, ``size`` rows at a time."""
    return (Batch.of(x, mask) for x, mask in blocks(batch.x, batch.mask, size))
