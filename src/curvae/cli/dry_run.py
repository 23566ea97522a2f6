"""``curvae fit ... --dry-run``: what a run would take, before it is begun."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from curvae.cli.output import show

if TYPE_CHECKING:
    from curvae.data import Data
    from curvae.systems import System
    from curvae.training.fits.rehearsal import Rehearsal
    from curvae.training.setup.settings import TrainingSettings

NAMED = 12
"""Columns that are named."""


def tell(system: "System", data: "Data", settings: "TrainingSettings") -> None:
    """Print what was read, how large the model is, how long and how much memory training would take."""
    from curvae.training.fits.rehearsal import rehearse

    show("Nothing was written. This run would take about:", ["", ""], _rows(rehearse(system, data, settings), data))


def _rows(found: "Rehearsal", data: "Data") -> Iterator[tuple[str, str]]:
    yield "data", repr(data)
    if names := data.schema.names:
        yield "columns", ", ".join(names[:NAMED]) + (f", ... ({len(names)})" if len(names) > NAMED else "")
    yield "model", f"{found.parameters:,} parameters, {_bytes(4 * found.parameters)}"
    yield "batch size, rate", f"{found.settings.batch_size}, {found.settings.learning_rate:.2g}"
    for each in found.stages:
        yield f"stage {each.stage}", f"{each.updates:,} updates of {1000 * each.step:.3g} ms: {_time(each.seconds)}"
    whole = sum(each.seconds for each in found.stages)
    yield "time", f"{_time(whole)} at most, validation and saving apart; patience may end it before"
    if found.memory is not None:
        yield "memory", f"{_bytes(found.memory)}, as this process after these steps"


def _time(seconds: float) -> str:
    """In the unit that fits.

    >>> _time(0.5), _time(90), _time(7300)
    ('0.5 s', '1.5 min', '2.0 h')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _bytes(size: float) -> str:
    """In the unit that fits.

    >>> _bytes(5016), _bytes(2.5e9)
    ('5.0 kB', '2.5 GB')
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.1f} GB"
