"""Rows with known noise, cleaned: in the form in which they came, with how well each value is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data import DataError, Schema
from curvae.data.context import scaled_errors
from curvae.data.own_units import restore_dtypes
from curvae.data.tables.columnar import Columnar
from curvae.data.tables.frames import FrameColumns
from curvae.fitted import outputs
from curvae.fitted.imputing import observed_cells
from curvae.fitted.rows import TransformedRows
from curvae.systems import System
from curvae.systems.device import batch_to_system

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Denoised:
    """Cleaned rows, and what is known of each value; N rows, all in own units."""

    cleaned: Any
    """As they came; rounded where a column is whole."""
    mean: Array
    """(N, *event), not rounded."""
    deviation: Array
    """(N, *event), the standard deviation of each value given its noisy row."""
    effective_draws: Array
    """(N,): so many independent draws would say as much of the latents of a row; NaN by the mode."""
    flagged: Array
    """(N,), True where effective draws are too few (below 50), chains disagree (R-hat above 1.05), or the search for
    the mode has not settled."""

    def __repr__(self) -> str:
        return f"Denoised({len(self.mean):,} rows, {int(self.flagged.sum())} flagged)"


def denoise_rows(
    system: System,
    schema: Schema,
    rows: TransformedRows,
    noise: Any = None,
    by: str = "draws",
    draws: int = 1000,
    seed: int = 0,
) -> Denoised:
    """Rows that were read, cleaned; see :func:`curvae.evaluation.denoise`.

    Args:
        system: that is trained.
        schema: of its run.
        rows: under the transform of the run.
        noise: in own units, see :meth:`curvae.fitted.Fitted.denoise`.
        by: "draws" or "mode".
        draws: of the latents of each row.
        seed: of the draws.

    Raises:
        DataError: noise that does not go with the rows, or data under a transform that is no scale.
    """
    from curvae.evaluation import denoise

    table = rows.table
    batch = batch_to_system(system, table.batch(torch.arange(len(table))))
    scale = scaled_errors(torch.ones(schema.spec.event, dtype=torch.float64), table.transform, "noise")
    level = None if noise is None else (torch.from_numpy(noise_of(rows, schema, noise)) * scale).to(batch.x)
    found = denoise(system, batch.x, level, batch.mask, batch.given, by, draws, seed)
    mean = table.transform.inverse(found.mean).cpu().numpy()
    deviation = (found.deviation.double().cpu() / scale).numpy()
    for j, column in enumerate(schema.features):
        if column.constant is not None:
            mean[:, j], deviation[:, j] = column.constant, 0.0
    cleaned = restore_dtypes(schema, torch.from_numpy(mean))
    form = cleaned if rows.frame is None else outputs.as_given(rows.frame, schema, cleaned)
    return Denoised(form, mean, deviation, found.effective.cpu().numpy(), ~found.reliable.cpu().numpy())


def noise_of(rows: TransformedRows, schema: Schema, noise: Any) -> Array:
    """The noise of every value in own units, (N, *event).

    Raises:
        DataError: it is of another shape, of a feature that is none, or not of all of them.
    """
    shape = tuple(rows.table.raw.shape)
    if isinstance(noise, Mapping):
        found = _by_column(rows, schema, {str(name): value for name, value in noise.items()}).reshape(shape)
    else:
        found = _everywhere(rows, noise, shape)
    if (bad := observed_cells(rows.table) & ~((found > 0) & np.isfinite(found))).any():
        raise DataError(f"noise: expected positive finite standard deviations, got {found[bad][0]:g}.")
    return found


def _everywhere(rows: TransformedRows, noise: Any, shape: tuple[int, ...]) -> Array:
    """A number, or an array of the rows' shape or broadcast to it."""
    try:
        level = np.asarray(noise, dtype=np.float64)
        return np.broadcast_to(_kept(rows, level) if level.ndim == len(shape) else level, shape).copy()
    except (ValueError, IndexError, TypeError):
        got = f"shape {np.shape(noise)}" if np.ndim(noise) else repr(noise)
        raise DataError(f"noise: expected a positive number, or one of each value, {shape}; got {got}.") from None


def _kept(rows: TransformedRows, level: Array) -> Array:
    """Those of the rows that were kept of a file, where there is one for each row of it."""
    return level if len(level) in (1, len(rows.table)) else level[rows.number]


def _by_column(rows: TransformedRows, schema: Schema, noise: Mapping[str, Any]) -> Array:
    names = list(schema.names)
    wrong = [name for name in noise if name not in names] or [name for name in names if name not in noise]
    if wrong:
        raise DataError(f"noise: expected that of each of {', '.join(names[:20])}; {wrong[0]!r} is not among both.")
    return np.stack([_of_column(rows, name, noise[name]) for name in names], 1)


def _of_column(rows: TransformedRows, name: str, value: Any) -> Array:
    """A number, one of each row, or the name of a column that has it."""
    if isinstance(value, str):
        source: Columnar | None = rows.source if rows.frame is None else FrameColumns("x", rows.frame)
        header = [] if source is None else source.header
        if value not in header:
            known = ", ".join(header[:20]) or "columns with names"
            raise DataError(f"noise: expected a number or a column among {known} for {name!r}, got {value!r}.")
        assert source is not None
        value = source.numbers([header.index(value)])[:, 0]
    level = np.asarray(value, dtype=np.float64)
    return np.broadcast_to(_kept(rows, level) if level.ndim else level, len(rows.table))
