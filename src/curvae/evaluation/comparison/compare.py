"""Compare evaluated runs: one table, and differences paired by example."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation import io
from curvae.evaluation.comparison import tables
from curvae.evaluation.comparison.compared_baselines import Beside, baselines_of, notes_on_baselines
from curvae.evaluation.comparison.compatibility import MeasuredRun, check_comparable
from curvae.evaluation.comparison.multiple_testing import holm, paired_p_value
from curvae.evaluation.evaluate import HasRun, run_of
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.results import Estimate, to_plain_json
from curvae.training.errors import RunError
from curvae.training.run import layout, metrics
from curvae.training.run.run_folder import RunFolder

SOURCES = "best", "laplace", "defensive", "own"
"""What log p(x) can be taken from: what is there for every example."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison; None where its system has no such number."""

    name: str
    system: str | None
    proposal: str
    """Where ``log_likelihood`` is from: "best", "laplace", "defensive", "own" or "exact"; "none" where it is none."""
    log_likelihood: Estimate | None
    elbo: Estimate | None
    gap: float | None
    """``log_likelihood - elbo``, nats: what inference costs."""
    flagged: float | None
    """Share of data whose k-hat is above 0.7, or whose estimate is not finite."""
    active_units: int | None
    latents: int | None
    seconds: float | None
    """Training time, from ``metrics.csv``."""


@dataclass(frozen=True)
class Difference:
    """A run less the first one, in nats per example, over the data where both are finite.

    ``stderr = sd(a_i - b_i) / sqrt(N)``: what makes an example easy or hard for both falls out.

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
        """From the log-likelihoods of each example."""
        paired = Estimate.paired(ours, theirs)
        return cls(name, against, paired.value, paired.stderr, int(np.isfinite(ours - theirs).sum()))

    @property
    def stderrs(self) -> float:
        """How many paired standard errors the difference is; NaN where it has none."""
        if self.stderr == 0:
            return math.copysign(math.inf, self.value) if self.value else 0.0
        return self.value / self.stderr

    @property
    def p_value(self) -> float:
        """How often chance alone gives as large a difference, if this were the only one looked at."""
        return paired_p_value(self.value, self.stderr, self.count)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, on the same data; differences are against the first."""

    rows: tuple[ComparedRun, ...]
    differences: tuple[Difference, ...]
    trusted: tuple[Difference, ...]
    """The same over the data that are flagged in neither run."""
    data: str
    split: str
    count: int
    unit: str
    baselines: tuple[ComparedRun, ...] = ()
    """Models in closed form on the same rows: those of all runs, each once."""
    over_baselines: tuple[Difference, ...] = ()
    """Each run less each of its own baselines, with p-values corrected for the number of these."""
    over_baselines_trusted: tuple[Difference, ...] = ()
    """The same over the data that are not flagged."""
    notes: tuple[str, ...] = ()
    """What to be careful about in this comparison, in plain words."""

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has; a difference also says how many paired standard errors it is, and its p-value."""
        names = ("differences", "trusted", "over_baselines", "over_baselines_trusted")
        parts = {name: getattr(self, name) for name in names}
        return to_plain_json(
            asdict(self) | {name: [_said(difference) for difference in part] for name, part in parts.items()}
        )

    def to_text(self, width: int = 120) -> str:
        """The tables as plain text."""
        return tables.text(tables.renderables(self), width)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        yield from tables.renderables(self)

    def figure(self, path: str | PathLike[str]) -> Path:
        """Draw the differences with error bars of two paired standard errors, as PNG, SVG or PDF by the file's name.

        Raises:
            ValueError: there is no difference to draw, or matplotlib does not know the format.
        """
        from curvae.evaluation.comparison.figure import difference_figure
        from curvae.evaluation.figures import save

        return save(difference_figure(self), path)


def _said(difference: Difference) -> dict[str, Any]:
    return asdict(difference) | {"stderrs": difference.stderrs, "p_value": difference.p_value}


def compare(
    runs: Sequence[HasRun | RunFolder | str | PathLike[str]],
    proposal: str = "best",
) -> Comparison:
    """Compare runs by their evaluation files: a table, and differences from the first run paired by example.

    Before the runs stand their baselines, models in closed form, each once (see :func:`curvae.evaluation.evaluate`),
    and of each run its differences from its own.

    Each difference has the p-value of a paired t-test, and another that Holm's step-down corrects for their number. It
    is taken over all data with finite estimates, and once more over those that are flagged in neither run.

    Args:
        runs: evaluated runs or their folders.
        proposal: whose estimates: the "best" of each example, or one proposal for all; where a system's evidence is
            exact it is taken as it is.

    Raises:
        RunError: a run has not been evaluated, or its files are damaged or stale: of other weights than it has now.
        ValueError: no run, no such proposal of all runs, or runs evaluated on different data, transforms, splits, rows
            or units.
    """
    if not runs:
        raise ValueError("compare: expected one run or more; got none.")
    if proposal not in SOURCES:
        raise ValueError(f"compare: proposal is one of {', '.join(SOURCES)}; got {proposal!r}.")
    found = [_read(run) for run in runs]
    found = _distinct(found)
    for other in found[1:]:
        check_comparable(found[0], other)
    first = found[0]
    differences, trusted = _differences(found, proposal, False), _differences(found, proposal, True)
    rows = tuple(_row(run, proposal) for run in found)
    described = {name: getattr(first.result, name) for name in ("split", "count", "unit")}
    beside = baselines_of(found)
    return Comparison(
        rows,
        differences,
        trusted,
        first.values["data"]["name"],
        **described,
        baselines=tuple(_baseline_row(each) for each in beside),
        over_baselines=_over(beside, found, proposal, False),
        over_baselines_trusted=_over(beside, found, proposal, True),
        notes=(*_notes(rows, found), *notes_on_baselines(found)),
    )


def _read(run: HasRun | RunFolder | str | PathLike[str]) -> MeasuredRun:
    path = Path(run) if isinstance(run, str | PathLike) else run_of(run).path
    found = io.read_evaluation(path)
    if found.stale:
        raise RunError(f"compare: stale: {path} was evaluated on other weights; run `curvae evaluate {path}` again.")
    if "data" not in found.values:
        raise RunError(f"compare: {path / layout.EVALUATION} does not say of which data it is; evaluate the run again.")
    return MeasuredRun(path.resolve().name, path, found.result, found.values, found.arrays)


def _differences(found: Sequence[MeasuredRun], proposal: str, trusted: bool) -> tuple[Difference, ...]:
    """Of all runs but the first from the first, with p-values corrected for their number."""
    each = [_likelihoods(run, proposal, trusted) for run in found]
    differences = [
        Difference.of(run.name, found[0].name, ours, each[0])
        for run, ours in zip(found[1:], each[1:], strict=True)
        if ours is not None and each[0] is not None
    ]
    return _corrected(differences)


def _over(
    beside: Sequence[Beside], found: Sequence[MeasuredRun], proposal: str, trusted: bool
) -> tuple[Difference, ...]:
    """Of each run from each of its own baselines, run by run."""
    each = [(run, _likelihoods(run, proposal, trusted)) for run in found]
    differences = [
        Difference.of(run.name, baseline.name, ours, baseline.values)
        for run, ours in each
        for baseline in beside
        if ours is not None and run.name in baseline.runs
    ]
    return _corrected(differences)


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """With p-values corrected for their number."""
    corrected = holm([difference.p_value for difference in differences])
    return tuple(replace(d, p_holm=p) for d, p in zip(differences, corrected, strict=True))


def _likelihoods(run: MeasuredRun, proposal: str, trusted: bool) -> NDArray | None:
    """Log p(x) of each example from a proposal, NaN where it is not to be used; None where there is none."""
    if "log_likelihood" not in run.arrays or "proposal" not in run.arrays:
        return run.arrays.get("log_likelihood")
    name = "log_likelihood" if proposal == "best" else f"log_likelihood_{proposal}"
    if name not in run.arrays or (proposal != "best" and f"khat_{proposal}" not in run.arrays):
        raise ValueError(f"compare: {run.name} has no log p(x) from the proposal {proposal!r}; compare by 'best'.")
    values = run.arrays[name]
    if not trusted:
        return values
    bad = run.arrays["flagged"] if proposal == "best" else run.arrays[f"khat_{proposal}"] > KHAT_BAD
    return np.where(bad, np.nan, values)


def _distinct(found: list[MeasuredRun]) -> list[MeasuredRun]:
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


def _row(run: MeasuredRun, proposal: str) -> ComparedRun:
    result = run.result
    behind = result.headline if proposal == "best" else getattr(result, proposal)
    likelihood = behind.log_likelihood if behind else result.log_likelihood
    elbo, flagged = result.elbo, result.flagged / max(1, result.count)
    return ComparedRun(
        name=run.name,
        system=run.values.get("system"),
        proposal="none" if likelihood is None else proposal if behind else "exact",
        log_likelihood=likelihood,
        elbo=elbo,
        gap=None if likelihood is None or elbo is None else likelihood.value - elbo.value,
        flagged=None if not behind else flagged if proposal == "best" else behind.khat.flagged,
        active_units=result.active_units,
        latents=None if result.activity is None else len(result.activity),
        seconds=training_seconds(run.path),
    )


def _baseline_row(found: Beside) -> ComparedRun:
    nothing = dict.fromkeys(("elbo", "gap", "flagged", "active_units", "latents", "seconds"))
    return ComparedRun(found.name, None, "exact", found.log_likelihood, **nothing)


def _notes(rows: Sequence[ComparedRun], found: Sequence[MeasuredRun]) -> list[str]:
    notes = []
    unlike = [row.name for row in rows if row.log_likelihood is None]
    notes += [f"{name}: it has no log-likelihood, hence no difference from another run." for name in unlike]
    samples = {run.result.samples for run, row in zip(found, rows, strict=True) if row.proposal in SOURCES}
    if len(samples) > 1:
        notes.append(
            f"Different numbers of draws ({', '.join(map(str, sorted(samples)))}): fewer err lower on average."
        )
    excluded = {run.name: run.result.excluded for run in found if run.result.excluded}
    notes += [f"{name}: {count:,} data that are not finite are left out." for name, count in excluded.items()]
    return notes


def training_seconds(folder: Path) -> float | None:
    """Training time, from the last row of ``metrics.csv``; None where it is not known."""
    try:
        seconds = metrics.read_metrics(folder / layout.METRICS)["seconds"]
    except RunError:
        return None
    return seconds[-1] if seconds else None
