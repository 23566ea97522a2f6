"""What each latent does: rows that the decoder gives as one latent moves and all others stay."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.argument_checks import check_least
from curvae.data import Schema
from curvae.data.own_units import columns_by_name
from curvae.evaluation.draws import equally_weighted
from curvae.fitted.rows import TransformedRows, batches, evaluation_mode, rows_of
from curvae.latents import traverse_each_latent
from curvae.posteriors import representative_point, rotated
from curvae.systems import HasModel, require
from curvae.systems.device import device_and_dtype

if TYPE_CHECKING:
    from curvae.fitted.fitted import Fitted

ROWS = 1000
"""Validation rows, at most, whose posteriors make the range of a latent."""
STEPS = 9


class Traversal(NamedTuple):
    """Rows along one latent after the other."""

    latent: NDArray[Any]
    """(N,), which one moves."""
    value: NDArray[Any]
    """(N,), where it is."""
    x: NDArray[Any]
    """(N, *event), ``E[x | z]`` there, in own units."""
    of: str
    """Whose range it is: "posterior", or "prior" where the run's data cannot be opened."""


def traversal(
    fitted: "Fitted",
    latent: int | Sequence[int] | None = None,
    steps: int = STEPS,
    start: TransformedRows | None = None,
    rotate: bool | None = None,
) -> Traversal:
    """What :meth:`curvae.Fitted.traverse` gives, of a row that was read.

    Raises:
        ValueError: discrete latents, a decoder that also sees x, a latent that is none, fewer steps than 2, or more or
            fewer rows to begin at than one.
    """
    model = require(fitted.system, HasModel, "traverse").parts().model
    if model.autoregressive or not model.prior.continuous:
        why = "latents that are discrete" if not model.prior.continuous else "a decoder that also sees x"
        raise ValueError(f"traverse: expected continuous latents and a decoder of them alone, got {why}.")
    check_least("traverse", 2, steps=steps)
    latents = _chosen(latent, model.prior.size)
    drawn, of = _range(fitted, rotate)
    base = drawn.median(0).values if start is None else _center(fitted, start, rotate)
    z = traverse_each_latent(base, drawn, latents, steps).numpy()
    moved = np.repeat(latents, z.shape[1])
    flat = z.reshape(len(moved), -1)
    return Traversal(moved, flat[np.arange(len(moved)), moved], fitted.decoded(flat, rotate), of)


def traversed_columns(schema: Schema, found: Traversal) -> dict[str, NDArray[Any]]:
    """Which latent moves, where it is, and the values of each column there."""
    named = np.array([f"z{latent}" for latent in found.latent.tolist()], dtype=object)
    return {"latent": named, "value": found.value} | columns_by_name(schema, found.x)


def _chosen(latent: int | Sequence[int] | None, size: int) -> list[int]:
    chosen = list(range(size)) if latent is None else [latent] if isinstance(latent, int) else list(latent)
    if bad := [each for each in chosen if not 0 <= each < size]:
        raise ValueError(f"latent: expected 0 to {size - 1}, got {bad[0]}.")
    return chosen


def _range(fitted: "Fitted", rotate: bool | None) -> tuple[Tensor, str]:
    """A draw of the posterior of each validation row; of the prior where there are no rows."""
    from curvae.training import RunError

    try:
        rows = rows_of(fitted.run, "validation")
    except RunError:
        rows = None
    axes, parts = fitted.axes_for(rotate), require(fitted.system, HasModel, "traverse").parts()
    generator = Generator(device_and_dtype(fitted.system)[0]).manual_seed(0)
    with evaluation_mode(fitted.system, 0):
        if rows is None:
            z = parts.model.prior.sample(ROWS, generator)
        else:
            found = (parts.infer(batch).posterior for batch in batches(fitted.system, rows.table, ROWS))
            z = torch.cat([equally_weighted(q, 1, generator)[0] for q in found])
    z = z.detach().cpu().double()
    return z if axes is None else z @ axes.rotation.mT, "posterior" if rows is not None else "prior"


def _center(fitted: "Fitted", start: TransformedRows, rotate: bool | None) -> Tensor:
    if len(start.table) != 1:
        raise ValueError(f"traverse: expected one row to begin at, got {len(start.table)}.")
    axes, parts = fitted.axes_for(rotate), require(fitted.system, HasModel, "traverse").parts()
    with evaluation_mode(fitted.system, 0):
        q = parts.infer(next(batches(fitted.system, start.table))).posterior
        return representative_point(q if axes is None else rotated(q, axes.rotation))[0].cpu().double()
