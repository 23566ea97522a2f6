"""``curvae score``: log p(x) of each row, how unusual that is, and which of its columns make it so."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curvae.cli.errors import UsageError
from curvae.cli.latents import FILE, check_file, check_flag_ranges, named_rows, write_arrays
from curvae.cli.output import fresh
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.io.reading import Reading

if TYPE_CHECKING:
    from curvae.fitted import Fitted
    from curvae.fitted.rows import TransformedRows

Array = NDArray[Any]
REFERENCE = 1000
"""Validation rows that a row is ranked among, at most."""
UNUSUAL = 2.0
"""Standard deviations from which a column is a reason."""
NAMED = 3
"""Reasons of a row, and rows that are printed."""


@command(
    "RUN DATA [flags]",
    "curvae score runs/stars new.csv --to scores.csv",
    "curvae score runs/digits-vlae test --to scores.npz",
    reading=FILE,
)
def score_(
    run: Path,
    data: str,
    to: Path = Path("scores.csv"),
    reasons: bool | None = None,
    samples: int = 500,
    seed: int = 0,
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    reading: Reading,
) -> None:
    """Score data by a run: log p(x) of each row, and which of its columns are unusual.

    The file has, row by row: log_likelihood in nats as evaluate states it, its Monte Carlo error, whether it is
    flagged, log_det (log_likelihood + log_det is a density in the data's own units) and the percentile, the share of
    the run's validation rows that are less likely. With reasons also, for every column, by how many standard
    deviations it is off what the other columns of the row say, and the largest of these in words.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
        reasons: look at one column after the other; by default in tables of up to 200 columns.
        samples: draws for each row and proposal.
        seed: of the draws.
    """
    check_file(to)
    check_flag_ranges(samples=samples)
    from curvae.fitted import Fitted

    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        rows = named_rows(data, fitted.run, reading)
        found = _scores(fitted, rows, samples, seed)
        names, deviations = _deviations(fitted, rows, reasons, seed)
        words = _in_words(names, deviations)
        own = {f"{name}_deviations": column for name, column in zip(names, deviations.T, strict=True)}
        labels = {} if rows.labels is None else {_label(fitted): rows.labels}
        columns = rows.keys | found | ({"reasons": words} | own if names else {}) | labels
        write_arrays(target, found | ({"deviations": deviations} if names else {}) | labels, columns)
    print(f"{len(rows.table)} data: {to}")
    print(_most_unusual(found, words), end="")


def _scores(fitted: "Fitted", rows: "TransformedRows", samples: int, seed: int) -> dict[str, Array]:
    """Columns of the file that every row has."""
    import torch

    from curvae.fitted.rows import TransformedRows, rows_of

    scored = fitted.scored(rows, samples, seed)
    known = rows_of(fitted.run, "validation").table
    first = known.take(torch.arange(min(REFERENCE, len(known))))
    reference = np.sort(fitted.scored(TransformedRows(first, None), samples, seed).log_likelihood)
    percentile = 100 * np.searchsorted(reference, scored.log_likelihood) / len(reference)
    named = {name: values for name, values in scored._asdict().items() if values is not None}
    return {"row": rows.number, **named, "percentile": percentile}


def _deviations(
    fitted: "Fitted", rows: "TransformedRows", wanted: bool | None, seed: int
) -> tuple[Sequence[str], Array]:
    """Names of columns, and how far each is off in each row, (N, P); none where they are not looked at."""
    from curvae.evaluation.ood.unusual_rows import WIDEST
    from curvae.systems import HasModel

    none = np.zeros((len(rows.table), 0))
    able = isinstance(fitted.system, HasModel) and not fitted.system.parts().model.autoregressive
    if wanted and not able:
        raise UsageError("--reasons: expected a run with a decoder of latents alone; leave it out.")
    default = able and fitted.schema.is_table and len(fitted.schema.names) <= WIDEST
    if not (default if wanted is None else wanted):
        return (), none
    found = fitted.columns_scored(rows, seed=seed)["deviations"]
    return fitted.schema.names or [f"x{j}" for j in range(found.shape[1])], found


def _in_words(names: Sequence[str], deviations: Array) -> Array:
    """Of each row its most unusual columns.

    >>> _in_words(["u", "g"], np.array([[0.3, -4.21], [0.1, np.nan]])).tolist()
    ['g -4.2', '']
    """
    size = np.nan_to_num(np.abs(deviations), nan=0.0)
    order = np.argsort(-size, axis=1)[:, :NAMED]
    said = [
        "; ".join(f"{names[j]} {deviations[i, j]:+.1f}" for j in order[i] if size[i, j] >= UNUSUAL)
        for i in range(len(deviations))
    ]
    return np.array(said, dtype=object)


def _most_unusual(found: Mapping[str, Array], words: Array) -> str:
    """Lines of the rows that are least likely."""
    lines = ["least likely (percentile among the run's validation rows; columns off by standard deviations):"]
    for i in np.argsort(found["log_likelihood"])[:NAMED]:
        why = f": {words[i]}" if words[i] else ""
        level = f"{found['log_likelihood'][i]:.2f} ± {found['stderr'][i]:.2f}"
        lines.append(f"  row {found['row'][i]}, {level} nats, {found['percentile'][i]:.1f} %{why}")
    if flagged := int(found["flagged"].sum()):
        lines.append(f"{flagged} of {len(words)} rows are flagged: draws of another seed may give other numbers there.")
    return "\n".join(lines) + "\n"


def _label(fitted: "Fitted") -> str:
    from curvae.fitted.outputs import label_of

    return label_of(fitted.schema)
