"""``curvae ood``: how little rows look like those that a run was trained on, by every score that it can have."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curvae.cli.flags import Source
from curvae.cli.latents import FILE, check_file, named_rows, write_arrays
from curvae.cli.output import fresh, print_warnings, show
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.evaluation import NamedTable, OodSettings, UnknownInputs, unknown_inputs
from curvae.io.reading import Reading
from curvae.progress import progress as shown_progress

if TYPE_CHECKING:
    from curvae.fitted.rows import TransformedRows
    from curvae.training import RunFolder


@command(
    "RUN DATA [flags]",
    "curvae ood runs/fashion mnist --against test",
    "curvae ood runs/stars new.csv --to unknown.csv",
    settings=Source("flags", OodSettings),
    reading=FILE,
)
def ood(
    run: Path,
    data: str,
    against: str | None = None,
    to: Path = Path("unknown.csv"),
    force: bool = False,
    progress: bool = True,
    trust: Sequence[str] | None = None,
    *,
    settings: OodSettings,
    reading: Reading,
) -> None:
    """Score how unknown each row is to a run; of every score, the larger the less known. Also written into ood.json.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        against: rows that are known, test say: how well does each score tell the two apart?
        to: file to write, .npz or .csv, a column for each score.
        data_dir: the folder in which the files of DATA are now, where that is a known set.
    """
    check_file(to)
    with fresh(to, force) as target:
        opened = open_run(run, trust or ())
        rows = [named_rows(data, opened, reading)]
        if against is not None:
            rows.append(named_rows(against, opened, replace(reading, data_dir=None)))
        tables = [NamedTable(word, each.table) for word, each in zip((data, against or ""), rows, strict=False)]
        found = _found(opened, tables, settings, progress)
        columns = _columns(found, rows)
        write_arrays(target, columns, columns)
    show(f"{run}: {found.title}", found.header, found.table(), numbers=True)
    print("\n".join(found.remarks()))
    print_warnings(found.warnings)


def _found(run: "RunFolder", tables: Sequence[NamedTable], settings: OodSettings, wanted: bool) -> UnknownInputs:
    if not wanted:
        return unknown_inputs(run, *tables, settings=settings)
    with shown_progress(100) as work:

        def show_part(done: int, total: int, what: str) -> None:
            work.show(100 * done // max(total, 1), f"{what}, step {done} of {total}", "")

        return unknown_inputs(run, *tables, settings=settings, report=show_part)


def _columns(found: UnknownInputs, rows: "Sequence[TransformedRows]") -> dict[str, Any]:
    """A line for each row: which set it is of, where it stood there, and its scores."""
    each = [found.values, found.values_against][: len(rows)]
    sizes, names = (found.count, found.others), (found.rows, found.against or "")
    own = [np.asarray(part.number)[:size] for part, size in zip(rows, sizes, strict=False)]
    told = {"data": np.concatenate([np.repeat(name, len(row)) for name, row in zip(names, own, strict=False)])}
    told["row"] = np.concatenate(own)
    return told | {name: np.concatenate([values[name] for values in each]) for name in found.values}
