"""Compare evaluated runs: one table, and differences paired by datum."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation import store, tables
from curvae.evaluation.alike import Measured, check
from curvae.evaluation.evaluate import RunFolder
from curvae.evaluation.holm import holm, paired_p_value
from curvae.evaluation.results import Estimate, Evaluation, plain


@dataclass(frozen=True)
class Row:
    """One run of a comparison; None where its system has no such number."""

    name: str
    system: str | None
    proposal: str
    """Where ``log_likelihood`` comes from: "laplace", "own" or "exact"; "none" where there is none."""
    log_likelihood: Estimate | None
    elbo: Estimate | None
    gap: float | None
    """``log_likelihood - elbo``, nats: what inference costs."""
    khat_flagged: float | None
    """Share of data whose k-hat is above 0.7."""
    active_units: int | None
    latents: int | None
    seconds: float | None
    """Training time, from ``metrics.csv``."""


@dataclass(frozen=True)
class Difference:
    """A run less the first one, in nats per datum, over the data where both are finite.

    ``stderr = sd(a_i - b_i) / sqrt(N)``: what makes a datum easy or hard for both falls out.

    Example:
        >>> import numpy as np
        >>> Difference.of("new", "old", np.array([2.0, 5.0, 8.0]), np.array([1.0, 3.0, 8.0]))
        Difference(name='new', against='old', value=1.0, stderr=0.5773502691896258, count=3, p_holm=nan)
    """

    name: str
    against: str
    value: float
    stderr: float
    count: int
    p_holm: float = math.nan
    """``p_value``, corrected for the number of differences in the comparison; see :func:`curvae.evaluation.holm`."""

    @classmethod
    def of(cls, name: str, against: str, ours: NDArray, theirs: NDArray) -> "Difference":
        """From the log-likelihoods of each datum."""
        difference = ours - theirs
        difference = difference[np.isfinite(difference)]
        paired = Estimate.of(difference)
        return cls(name, against, paired.value, paired.stderr, len(difference))

    @property
    def stderrs(self) -> float:
        """How many paired standard errors the difference is; NaN where it has none."""
        if self.stderr == 0 and self.value == 0:
            return 0.0
        return self.value / self.stderr if self.stderr > 0 else math.copysign(math.inf, self.value)

    @property
    def p_value(self) -> float:
        """How often chance alone gives as large a difference, if this were the only one looked at."""
        return paired_p_value(self.value, self.stderr, self.count)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, on the same data; differences are against the first."""

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    data: str
    split: str
    count: int
    unit: str
    notes: tuple[str, ...] = ()
    """What to be careful about in this comparison, in plain words."""

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has; a difference also says how many paired standard errors it is, and its p-value."""
        differences = [asdict(d) | {"stderrs": d.stderrs, "p_value": d.p_value} for d in self.differences]
        return plain(asdict(self) | {"differences": differences})

    def to_text(self, width: int = 120) -> str:
        """The tables as plain text."""
        return tables.text(self, width)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        yield from tables.renderables(self)

    def figure(self, path: str | PathLike[str]) -> Path:
        """Draw the differences with error bars of two paired standard errors, as PNG, SVG or PDF by the file's name.

        Raises:
            ValueError: there is no difference to draw, or matplotlib does not know the format.
        """
        from curvae.evaluation.figure import draw

        return draw(self, Path(path))


def compare(runs: Sequence[RunFolder | str | PathLike[str]]) -> Comparison:
    """Compare runs by their evaluation files: a table, and differences from the first run paired by datum.

    Each difference has the p-value of a paired t-test, and another that Holm's step-down corrects for their number.

    Raises:
        FileNotFoundError: a run has not been evaluated.
        ValueError: no run, or runs evaluated on different data, transforms, splits, rows or units.
    """
    if not runs:
        raise ValueError("compare: expected one run or more; got none.")
    found = [_read(run) for run in runs]
    found = _distinct(found)
    for other in found[1:]:
        check(found[0], other)
    first = found[0]
    likelihoods = {run.name: run.arrays.get("log_likelihood") for run in found}
    theirs = likelihoods[first.name]
    differences = tuple(
        Difference.of(name, first.name, ours, theirs)
        for name, ours in list(likelihoods.items())[1:]
        if ours is not None and theirs is not None
    )
    corrected = holm([difference.p_value for difference in differences])
    differences = tuple(replace(d, p_holm=p) for d, p in zip(differences, corrected, strict=True))
    rows = tuple(_row(run) for run in found)
    described = {name: first.values[name] for name in ("split", "count", "unit")}
    return Comparison(rows, differences, first.values["data"]["name"], **described, notes=tuple(_notes(rows, found)))


def _read(run: RunFolder | str | PathLike[str]) -> Measured:
    path = Path(run) if isinstance(run, str | PathLike) else Path(run.path)
    values, arrays = store.read(path)
    return Measured(path.resolve().name, path, values, arrays)


def _distinct(found: list[Measured]) -> list[Measured]:
    """Runs of the same folder name are told apart by their paths.

    Raises:
        ValueError: the same run twice.
    """
    names = [run.name for run in found]
    found = [run if names.count(run.name) == 1 else run._replace(name=str(run.path)) for run in found]
    paths = [run.path.resolve() for run in found]
    for run, path in zip(found, paths, strict=True):
        if paths.count(path) > 1:
            raise ValueError(f"compare: {run.path} was given twice; pass each run once.")
    return found


def _row(run: Measured) -> Row:
    result = Evaluation.from_dict(run.values)
    likelihood, elbo = result.log_likelihood, result.elbo
    return Row(
        name=run.name,
        system=run.values["system"],
        proposal=_proposal(result),
        log_likelihood=likelihood,
        elbo=elbo,
        gap=None if likelihood is None or elbo is None else likelihood.value - elbo.value,
        khat_flagged=None if result.khat is None else result.khat.flagged,
        active_units=result.active_units,
        latents=None if result.activity is None else len(result.activity),
        seconds=training_seconds(run.path),
    )


def _proposal(result: Evaluation) -> str:
    if result.log_likelihood is None:
        return "none"
    return "laplace" if result.laplace else "own" if result.own else "exact"


def _notes(rows: Sequence[Row], found: Sequence[Measured]) -> list[str]:
    notes = []
    sources = {row.proposal for row in rows} - {"none"}
    if len(sources - {"exact"}) > 1:
        notes.append("log p(x) was estimated from different proposals: a difference also holds that of the inference.")
    samples = {run.values["samples"] for run in found}
    if len(samples) > 1:
        notes.append(
            f"Different numbers of draws ({', '.join(map(str, sorted(samples)))}): fewer err lower on average."
        )
    excluded = {run.name: run.values["excluded"] for run in found if run.values["excluded"]}
    notes += [f"{name}: {count:,} data that are not finite are left out." for name, count in excluded.items()]
    return notes


def training_seconds(folder: Path) -> float | None:
    """Training time, from the last row of ``metrics.csv``; None where it is not known."""
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return float(rows[-1]["seconds"])
    except (OSError, KeyError, IndexError, ValueError, csv.Error):
        return None
