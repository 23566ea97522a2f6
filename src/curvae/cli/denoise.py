"""``curvae denoise``: rows with known noise, cleaned, and how well each value is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curvae.cli.errors import UsageError
from curvae.cli.flags import Source
from curvae.cli.latents import FILE, check_file, named_rows, write_arrays
from curvae.cli.output import fresh
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.io.reading import Reading

if TYPE_CHECKING:
    from curvae.fitted import Denoised


@dataclass(frozen=True)
class Cleaning:
    """What is known of the noise, and what is made of it.

    Args:
        noise: its standard deviation: a number, column=number or column=column of each column, or a .npy file with one
            of each value; by default the known errors that the rows come with, where the run was told of them.
        by: draws, the mean over weighted draws of the latents; mode, at the mode, with Laplace's uncertainty.
        draws: of the latents of each row.
        seed: of the draws.
    """

    noise: Sequence[str] | None = None
    by: Literal["draws", "mode"] = "draws"
    draws: int = 1000
    seed: int = 0


@command(
    "RUN DATA [flags]",
    "curvae denoise runs/digits-vlae test --noise 2 --to clean.npz",
    "curvae denoise runs/stars new.csv --noise u=0.1,g=g_err --to clean.csv",
    cleaning=Source("words and flags", Cleaning),
    reading=FILE,
)
def denoise_(
    run: Path,
    data: str,
    to: Path = Path("cleaned.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    cleaning: Cleaning,
    reading: Reading,
) -> None:
    """Clean rows that were observed with noise of known size: the mean of each value given its row, by the model.

    A .npz file holds row (N,), x in the data's shape, deviation, its standard deviation, effective_draws, flagged, and
    label where there are labels; a .csv file row, the columns of the data, each with its deviation, and the label. A
    row is flagged where fewer than 50 draws of its latents are effective, or a search or chains have not settled.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
    """
    check_file(to)
    from curvae.data.own_units import columns_by_name
    from curvae.fitted import Fitted
    from curvae.fitted.denoising import denoise_rows
    from curvae.fitted.outputs import label_of, named_values

    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        rows, schema = named_rows(data, fitted.run, reading), fitted.schema
        level = None if cleaning.noise is None else _noise(cleaning.noise)
        found = denoise_rows(fitted.system, schema, rows, level, cleaning.by, cleaning.draws, cleaning.seed)
        own = named_values(schema, found.deviation)
        beside = {f"{name}_deviation": values for name, values in own.items()} | {"flagged": found.flagged}
        labels = {} if rows.labels is None else {label_of(schema): rows.labels}
        columns = {**rows.keys, **columns_by_name(schema, found.cleaned), **beside, **labels}
        write_arrays(target, _arrays(found, rows.number, rows.labels), columns)
    print(f"{len(found.mean)} rows cleaned: {to}")
    if flagged := int(found.flagged.sum()):
        print(f"{flagged} of them are flagged: what is said of them is not to be trusted.")


def _noise(words: Sequence[str]) -> Any:
    """A number, those of columns, or those in a file."""
    if any("=" in word for word in words):
        if bad := [word for word in words if "=" not in word]:
            raise UsageError(f"--noise: expected column=number or column=column, got {bad[0]!r}.")
        parted = (word.rpartition("=") for word in words)
        return {name.strip(): _number(value.strip()) for name, _, value in parted}
    word = _number(words[0])
    if len(words) == 1 and isinstance(word, float):
        return word
    if len(words) > 1 or Path(words[0]).suffix != ".npy":
        raise UsageError(f"--noise: expected a number, column=number, or a .npy file, got {','.join(words)!r}.")
    from curvae.data.readers import read_npy

    return read_npy(Path(words[0]))


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


def _arrays(found: "Denoised", number: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
    known = {"x": found.cleaned, "deviation": found.deviation}
    known |= {"effective_draws": found.effective_draws, "flagged": found.flagged}
    return {"row": number} | known | ({} if labels is None else {"label": labels})
