"""``curvae sample`` and ``curvae encode``: from a run's model and posterior to arrays in a file."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curvae.argument_checks import MOST
from curvae.cli.errors import UsageError
from curvae.cli.flags import Source
from curvae.cli.output import fresh
from curvae.cli.parsing import command
from curvae.cli.picture_files import fresh_pictures, is_pictures, write_pictures
from curvae.cli.resolve import known_set_of, noted, open_run
from curvae.io.reading import CONTEXT, Reading

if TYPE_CHECKING:
    from curvae.fitted import Fitted
    from curvae.fitted.rows import TransformedRows
    from curvae.training import RunFolder

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Description:
    """How posteriors are described.

    Args:
        level: probability that an interval holds.
        rotate: latents in the axes that the decoder determines, the strongest first; so of tables.
    """

    level: float = 0.9
    rotate: bool | None = None

    def __post_init__(self) -> None:
        check_level(self.level)


DESCRIBED, FILE = (
    Source("words and flags", Description),
    Source("a file", Reading, skip=frozenset({"drop", "row_names", "transpose", "kind", "sequence", *CONTEXT})),
)


@command(
    "RUN [flags]",
    "curvae sample runs/digits-vlae --n 100 --to samples.npz",
    "curvae sample runs/digits-vlae --to samples.png",
    "curvae sample runs/stars --given class=STAR --given u=18.5 --to stars.csv",
)
def sample(
    run: Path,
    n: int = 64,
    seed: int = 0,
    given: Sequence[str] | None = None,
    to: Path = Path("samples.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
) -> None:
    """Draw new data from the model of a run, in the units of its data.

    Args:
        n: number of data to draw.
        seed: of the draws.
        given: column=value, again for a further one; the other columns are drawn from p(x | given).
        to: file to write: .npz (array x) or .csv (names, kinds and precision of the columns are the data's); of
            pictures also .png (all in one), or a new folder, a file for each; of sequences of pictures .png or .gif; of
            text .txt.
    """
    if not is_pictures(to) and to.suffix != ".txt":
        check_file(to)
    check_flag_ranges(n=n)
    from curvae.data.own_units import columns_by_name, lines_of
    from curvae.fitted import Fitted

    with fresh_pictures(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        characters = fitted.schema.characters
        if to.suffix == ".txt" and characters is None:
            raise UsageError(f"--to: expected .npz or .csv for rows that are no text, got {to}.")
        drawn = None if given is None else fitted.drawn_given(n, _given(given), seed)
        x = fitted.drawn(n, seed) if drawn is None else drawn.x
        if is_pictures(to):
            write_pictures(target, fitted.schema, x)
        elif target is not None and to.suffix == ".txt" and characters is not None:
            target.write_text("\n".join([*lines_of(characters, x), ""]), encoding="utf-8")
        else:
            write_arrays(target, {"x": x}, columns_by_name(fitted.schema, x))
    print(f"{n} samples of shape {tuple(x.shape[1:])}: {to}")
    if drawn is not None:
        print(f"effective draws of the latents: {drawn.effective_draws:,.0f}")
        if drawn.beyond:
            print(f"given beyond all that the model draws, where it has learned little: {', '.join(drawn.beyond)}")
    if constant := fitted.schema.constants:
        print(f"never varied in training, and drawn as one value: {', '.join(constant)}")


def _given(words: Sequence[str]) -> dict[str, str]:
    """Values by column."""
    if bad := [word for word in words if "=" not in word]:
        raise UsageError(f"--given: expected column=value, got {bad[0]!r}.")
    return {name.strip(): value.strip() for name, _, value in (word.rpartition("=") for word in words)}


@command(
    "RUN DATA [flags]",
    "curvae encode runs/digits-vlae test --to latents.npz",
    "curvae encode runs/stars new.csv --level 0.9 --to latents.csv",
    how=DESCRIBED,
    reading=FILE,
)
def encode(
    run: Path,
    data: str,
    to: Path = Path("latents.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    how: Description,
    reading: Reading,
) -> None:
    """Encode data by the posterior of a run; the data are transformed as those of the run were.

    A .npz file holds row (N,), mean (N, D), covariance (N, D, D), lower and upper (N, D); a .csv file row, and the mean
    and the interval of every latent dimension. Row counts the rows of the file that they came from, from 0; where there
    are labels, they are there too, and where the prior is a mixture clusters (N, blocks, components), probabilities; in
    a .csv file the most probable one. Columns of a file are found by their names.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
    """
    check_file(to)
    from curvae.fitted import Fitted

    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        rows = named_rows(data, fitted.run, reading)
        arrays = fitted.encoded(rows, how.level, how.rotate)
        write_latents(target, rows, fitted, arrays)
    print(f"{len(rows.table)} data in {arrays['mean'].shape[1]} latent dimensions: {to}")
    print(turned(fitted, how.rotate), end="")


def turned(fitted: "Fitted", rotate: bool | None) -> str:
    """A line that says in which axes latents are, and what of them is chance; "" where they are as trained."""
    if (axes := fitted.axes_for(rotate)) is None:
        return ""
    note = f"; {axes.note}" if axes.note else "."
    return f"latents by what the decoder says through them, z0 the most (--no-rotate: as trained){note}\n"


def named_rows(data: str, run: "RunFolder", reading: Reading) -> "TransformedRows":
    """Rows that a word names: a part of the run's data, a file, or a known set."""
    from curvae.fitted.rows import PARTS, rows_of

    if data not in PARTS:
        known_set_of(data)
    with noted():
        return rows_of(run, data, reading=reading)


def write_latents(
    target: Path | None, rows: "TransformedRows", fitted: "Fitted", arrays: Arrays, **beside: np.ndarray
) -> None:
    """Posteriors with the row of the file or array that each is of, from 0, and its label as it came, if any.

    Args:
        target: a .npz file for arrays; a .csv file for means, intervals, and the label under its own name.
        rows: that were described.
        fitted: by which.
        arrays: of the posteriors.
        beside: further columns of a .csv file.
    """
    from curvae.fitted.outputs import label_of, latent_columns

    def labeled(label: str) -> Arrays:
        return {} if rows.labels is None else {label: rows.labels}

    columns = dict(latent_columns(arrays)) | beside | labeled(label_of(fitted.schema))
    write_arrays(target, {"row": rows.number, **arrays, **labeled("label")}, rows.keys | columns)


def check_file(to: Path) -> None:
    """Complain of a file of another kind."""
    if to.suffix not in (".npz", ".csv"):
        raise UsageError(f"--to: expected a file name that ends in .npz or .csv, got {to}.")


def check_level(level: float) -> None:
    """Complain of a level that is no probability."""
    if not 0 < level < 1:
        raise UsageError(f"--level: expected a probability in (0, 1), got {level}.")


def check_flag_ranges(**at_least_one: int) -> None:
    """Complain of flags out of their range."""
    for name, value in at_least_one.items():
        if value < 1:
            raise UsageError(f"--{name}: expected 1 or more, got {value}.")
        if value > MOST:
            raise UsageError(f"--{name}: expected {MOST:,} or less, got {value:,}.")


def write_arrays(target: Path | None, arrays: Arrays, columns: Arrays) -> None:
    """Arrays to a .npz file, or columns to a .csv file: numbers in the shortest decimals that give them again."""
    assert target is not None
    if target.suffix == ".npz":
        np.savez(target, allow_pickle=False, **arrays)
        return
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))


def _cell(value: object) -> str:
    """A value as a cell of a .csv file; what is missing is empty."""
    return "" if value is None or value != value else str(value)
