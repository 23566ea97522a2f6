"""``curvae impute``: a table without gaps, intervals of what was filled in, and several draws of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curvae.cli.errors import UsageError
from curvae.cli.flags import Source
from curvae.cli.latents import FILE, check_file, check_level, named_rows, write_arrays
from curvae.cli.output import fresh
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.io.reading import Reading

if TYPE_CHECKING:
    from curvae.data import Schema
    from curvae.fitted import Imputed
    from curvae.fitted.rows import TransformedRows

SHOWN = 5
"""Flagged rows that are named."""


@dataclass(frozen=True)
class Filling:
    """What is filled in.

    Args:
        draws: so many tables, one below the other, each with draws of all that is missing in a row together; 0 = one
            table with means.
        intervals: also write each cell that was filled in with its interval into this file (.csv).
        level: probability that an interval holds.
        by: where draws of latents come from: modes (Laplace posteriors) or encoder, both weighted, or chains.
        seed: of the draws.
    """

    draws: int = 0
    intervals: Path | None = None
    level: float = 0.9
    by: Literal["modes", "encoder", "chains"] = "modes"
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.draws < 0:
            raise UsageError(f"--draws: expected 0 or more, got {self.draws}.")
        if self.intervals is not None and self.intervals.suffix != ".csv":
            raise UsageError(f"--intervals: expected a file name that ends in .csv, got {self.intervals}.")


@command(
    "RUN DATA [flags]",
    "curvae impute runs/stars holes.csv --to filled.csv",
    "curvae impute runs/stars holes.csv --to filled.csv --intervals intervals.csv --level 0.9",
    "curvae impute runs/stars holes.csv --to draws.csv --draws 20 --by chains",
    filling=Source("words and flags", Filling),
    reading=FILE,
)
def impute_(
    run: Path,
    data: str,
    to: Path = Path("filled.csv"),
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    filling: Filling,
    reading: Reading,
) -> None:
    """Fill in what is missing in a table, by its mean given what was observed in the row; words by the most probable.

    The .csv file has all columns of the data and what was observed in them as it was; with --draws also a first column
    draw, from 1. A .npz file has x, missing, lower, upper, probability, effective_draws, r_hat and flagged. A row is
    flagged where fewer than 50 effective draws of its latents are left, or R-hat of its chains is above 1.05: do not
    trust what is filled in there.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
    """
    check_file(to)
    from curvae.fitted import Fitted
    from curvae.fitted.imputing import impute_rows

    with fresh(to, force) as target, fresh(filling.intervals, force) as beside:
        fitted = Fitted(open_run(run, trust or ()))
        rows = named_rows(data, fitted.run, replace(reading, missing=reading.missing or "mask"))
        found = impute_rows(fitted.system, fitted.schema, rows, filling.draws, filling.level, filling.seed, filling.by)
        write_arrays(target, _arrays(rows, found), _columns(rows, fitted.schema, found))
        if beside is not None:
            cells = {str(name): found.cells[name].to_numpy() for name in found.cells}
            write_arrays(beside, cells, cells)
    print(_told(rows, found, to), end="")


def _columns(rows: "TransformedRows", schema: "Schema", found: "Imputed") -> dict[str, Any]:
    """One table, or all draws one below the other."""
    from curvae.fitted.imputing import written_columns

    if not found.draws:
        return written_columns(rows, schema, found.filled)
    each = [written_columns(rows, schema, drawn) for drawn in found.draws]
    name = "draw" if "draw" not in each[0] else "draw_"
    number = np.repeat(np.arange(1, len(each) + 1), len(rows.table))
    return {name: number} | {name: np.concatenate([columns[name] for columns in each]) for name in each[0]}


def _arrays(rows: "TransformedRows", found: "Imputed") -> dict[str, Any]:
    known = ("missing", "lower", "upper", "probability", "effective_draws", "r_hat", "flagged")
    x = np.stack(found.draws) if found.draws else found.filled
    labels = {} if rows.labels is None else {"label": rows.labels}
    return {"row": rows.number, "x": x} | {name: getattr(found, name) for name in known} | labels


def _told(rows: "TransformedRows", found: "Imputed", to: Path) -> str:
    """What was filled in, and how well it is known."""
    cells = int(found.missing.sum())
    filled = np.flatnonzero(found.missing.reshape(len(found.missing), -1).any(1))
    lines = [f"{cells:,} cells filled in, in {len(filled):,} of {len(found.missing):,} rows: {to}"]
    effective = found.effective_draws[filled]
    if np.isfinite(effective).any():
        known = effective[~np.isnan(effective)]
        lines.append(f"effective draws of a row: median {np.median(known):,.0f}, least {known.min():,.0f}")
    if (apart := found.r_hat[filled])[np.isfinite(apart)].size:
        lines.append(f"R-hat of the chains of a row: median {np.median(apart):.3f}, largest {apart.max():.3f}")
    if (flagged := np.flatnonzero(found.flagged)).size:
        named = ", ".join(str(rows.number[row]) for row in flagged[:SHOWN]) + (", ..." if flagged.size > SHOWN else "")
        lines.append(f"{flagged.size:,} rows are flagged, too few draws to trust what is filled in: {named}")
    return "\n".join(lines) + "\n"
