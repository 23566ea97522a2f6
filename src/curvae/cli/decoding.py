"""``curvae reconstruct`` and ``curvae traverse``: what the decoder makes of latents, in the data's own units."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curvae.cli.errors import UsageError
from curvae.cli.latents import FILE, check_file, check_flag_ranges, named_rows, write_arrays
from curvae.cli.output import fresh
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.io.reading import Reading

if TYPE_CHECKING:
    from curvae.fitted import Fitted, Traversal
    from curvae.fitted.rows import TransformedRows


@command(
    "RUN DATA [flags]",
    "curvae reconstruct runs/digits-vlae test --to rebuilt.npz",
    "curvae reconstruct runs/stars new.csv --to rebuilt.csv",
    reading=FILE,
)
def reconstruct_(
    run: Path,
    data: str,
    to: Path = Path("reconstructions.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    reading: Reading,
) -> None:
    """Write E[x | z] at the mean of each row's posterior: the data as the latents carry them.

    A .npz file holds row (N,), x in the data's shape, and label where there are labels; a .csv file row, the columns of
    the data and the label. Names, kinds and precision are the data's. Row counts the rows of the file, from 0.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
    """
    check_file(to)
    from curvae.data.own_units import columns_by_name
    from curvae.fitted import Fitted
    from curvae.fitted.outputs import label_of

    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        rows = named_rows(data, fitted.run, reading)
        x, told = fitted.reconstructed(rows), rows.labels
        labels = {} if told is None else {label_of(fitted.schema): told}
        arrays = {"row": rows.number, "x": x} | ({} if told is None else {"label": told})
        write_arrays(target, arrays, {**rows.keys, **columns_by_name(fitted.schema, x), **labels})
    print(f"{len(x)} reconstructions: {to}")


@command(
    "RUN [flags]",
    "curvae traverse runs/stars --to latents.csv",
    "curvae traverse runs/digits-vlae --latent 0,1 --steps 11 --row 3 --to latents.png",
)
def traverse_(
    run: Path,
    to: Path = Path("traversal.csv"),
    latent: Sequence[int] | None = None,
    steps: int = 9,
    row: int | None = None,
    rotate: bool | None = None,
    force: bool = False,
    trust: Sequence[str] | None = None,
) -> None:
    """Decode one latent at a time, over the range of the posteriors of the run's validation rows; the others stay.

    A .csv file has the latent, its value and the columns of the data there, in their own units; a .png file, of
    pictures, a line for each latent; a .npz file latent (N,), value (N,) and x.

    Args:
        to: file to write, .csv, .npz, or .png of pictures.
        latent: which to move; by default each of them.
        steps: values of each.
        row: of the run's test part, from 0, where the others are; by default at their medians over validation rows.
        rotate: latents in the axes that the decoder determines, the strongest first; so of tables.
    """
    if to.suffix not in (".csv", ".npz", ".png"):
        raise UsageError(f"--to: expected a file name that ends in .csv, .npz or .png, got {to}.")
    if steps < 2:
        raise UsageError(f"--steps: expected 2 or more, got {steps}.")
    check_flag_ranges(steps=steps)
    from curvae.fitted import Fitted
    from curvae.fitted.traversing import traversal, traversed_columns

    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        found = traversal(fitted, latent, steps, _row(fitted, row), rotate)
        if to.suffix == ".png":
            _draw(found, steps, target)
        else:
            write_arrays(
                target,
                {"latent": found.latent, "value": found.value, "x": found.x},
                traversed_columns(fitted.schema, found),
            )
    moved = ", ".join(f"z{latent}" for latent in dict.fromkeys(found.latent.tolist()))
    print(f"{moved}: {steps} values each, over the range of the {found.of}: {to}")


def _row(fitted: "Fitted", row: int | None) -> "TransformedRows | None":
    """One row of the run's test part."""
    import torch

    from curvae.fitted.rows import TransformedRows, rows_of

    if row is None:
        return None
    rows = rows_of(fitted.run, "test")
    if not 0 <= row < len(rows.table):
        raise UsageError(f"--row: expected a row of the test part, 0 to {len(rows.table) - 1}, got {row}.")
    return TransformedRows(rows.table.take(torch.tensor([row])), None)


def _draw(found: "Traversal", steps: int, target: Path | None) -> None:
    """A line of pictures for each latent."""
    from curvae.report import pictures, style

    if not pictures.shows_as_image(found.x):
        raise UsageError("--to: expected .csv or .npz of data that are no pictures, got .png.")
    assert target is not None
    x = found.x.astype(np.float64)
    target.write_bytes(style.png_bytes(pictures.tiles(x, steps, pictures.gray_range(x))))
