"""The baselines of an evaluation: fitted to the run's own training rows, scored on the rows that were evaluated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.baselines import NAMES, Baseline, fit_system_baselines, label
from curvae.data import ArrayTable, Data, DataError
from curvae.evaluation.estimate import Estimate, Scores
from curvae.evaluation.formatting import NONE, format_estimate
from curvae.evaluation.likelihood.estimation import finite, flagged
from curvae.evaluation.metric import Measured, Subject
from curvae.io.errors import reason
from curvae.io.typed import Count, OneOf
from curvae.systems import System
from curvae.training.errors import RunError
from curvae.training.run.run_folder import RunFolder

PREFIX = "baseline_"
"""Of the arrays with log p(x) of each row, in ``evaluation.npz``."""
MODELS = {
    "ppca": "Probabilistic PCA: one noise for all elements.",
    "factor_analysis": "Factor analysis: a noise of its own for each element.",
    "independent": "Every column by itself, whatever the others are.",
    "state_space": "A state for each step, linear in the one before, and frames linear in it, all Gaussian.",
}
"""What they are."""


@dataclass(frozen=True)
class BaselineResult:
    """A model in closed form on the rows that were evaluated, in the same units; nats per example, means over data.

    Example:
        >>> BaselineResult("ppca", 2, Estimate(-16.1, 0.4), Estimate(1.2, 0.1)).label
        'PPCA, 2 latents'
    """

    name: Annotated[str, OneOf(NAMES)]
    latent: Count | None = None
    """Number of its latent dimensions; None where it has none, or is left out."""
    log_likelihood: Estimate | None = None
    """Exact; None where it is left out."""
    difference: Estimate | None = None
    """log p(x) of the system less that of the baseline, paired by example; None where the system has none."""
    trusted: Estimate | None = None
    """The same over the data that are not flagged."""
    note: str = ""
    """Why it is left out, or to which part of the training rows it was fitted, in words."""

    @property
    def label(self) -> str:
        """Its name and number of latents."""
        return label(self.name, self.latent)

    @property
    def array(self) -> str:
        """Name of its array."""
        return PREFIX + self.name

    def rows(self) -> Iterator[tuple[str, str]]:
        """Its rows of the printed table: log p(x), and how far that of the system is above it."""
        value = "" if self.log_likelihood is None else str(self.log_likelihood)
        yield self.label, f"{value} ({self.note})" if value and self.note else value or self.note
        if self.difference is not None:
            trusted = self.trusted if self.trusted != self.difference else None
            apart = "" if trusted is None else f"; {trusted:+.2f} without flagged data"
            yield "  log p(x) less that", f"{self.difference:+.2f}, paired by datum{apart}"

    def described(self) -> tuple[str, str, str]:
        """Its row of the report: value with its error, and what it is, or why it is left out."""
        if self.log_likelihood is None:
            return (self.label, NONE, f"{self.note[:1].upper()}{self.note[1:]}.")
        text = f"{MODELS[self.name]} In closed form, {self.note or 'fitted to the training rows'}; exact."
        if self.difference is not None:
            text += f" This run less it, paired by datum: {format_estimate(self.difference)} nats"
            if self.trusted not in (None, self.difference):
                text += f", {format_estimate(self.trusted)} nats over the data not flagged"
            text += "."
        return (self.label, f"{format_estimate(self.log_likelihood)} nats", text)


@dataclass(frozen=True)
class Baselines:
    """Models in closed form, fitted to the run's training rows and scored on the same rows in the same units, with the
    paired difference from each: see :func:`curvae.baselines.fit`."""

    name = "baselines"

    def check(self, system: System) -> None:
        """Of any system."""

    def compute(self, subject: Subject) -> Measured:
        baselines = baselines_of_run(subject.run, subject.system, subject.data)
        values = score_baselines(baselines, subject.table, subject.scores)
        return Measured(summarize_baselines(baselines, values, subject.scores), values)


def baselines_of_run(run: RunFolder, system: System, data: Data) -> tuple[Baseline, ...]:
    """The baselines of a run, in the units of the data that it is evaluated on; or why there are none, in one line."""
    training = _training(run, data)
    if isinstance(training, str):
        return (Baseline("none", note=training),)
    return fit_system_baselines(system, training.train, data.spec)


def _training(run: RunFolder, data: Data) -> Data | str:
    """The data that the run was trained on, or why they cannot be had."""
    known = run.environment["data_checksum"]
    if data.checksum == known:
        return data
    try:
        found = run.data()
    except (RunError, DataError) as error:
        return f"the training data are not at hand ({reason(error).rstrip('.')})"
    if found.checksum != known:
        return "the data at hand are not those that the run was trained on"
    if found.transform.fingerprint != data.transform.fingerprint:
        return "the data evaluated are in other units than the training data"
    return found


def score_baselines(baselines: Sequence[Baseline], table: ArrayTable, scores: Scores) -> Scores:
    """``log p(x)`` of each row that was scored, of every baseline that there is."""
    batch = table.batch(torch.from_numpy(scores["index"]))
    there = [each for each in baselines if each.density is not None]
    return {PREFIX + each.name: each.log_prob(batch.x, batch.mask, batch.context).numpy() for each in there}


def summarize_baselines(baselines: Sequence[Baseline], values: Scores, scores: Scores) -> tuple[BaselineResult, ...]:
    """Each baseline beside the headline: over the data whose estimates are finite, as every other mean.

    Args:
        baselines: fitted.
        values: from :func:`score_baselines`.
        scores: of the system.
    """
    return tuple(_summary(each, values.get(PREFIX + each.name), scores) for each in baselines)


def _summary(baseline: Baseline, theirs: NDArray | None, scores: Scores) -> BaselineResult:
    if theirs is None:
        return BaselineResult(baseline.name, note=baseline.note)
    kept = finite(scores)
    differences = {"difference": _above(theirs, scores, kept), "trusted": _above(theirs, scores, ~flagged(scores))}
    mean = Estimate.of(theirs[kept])
    return BaselineResult(baseline.name, baseline.latent, mean, **differences, note=baseline.note)


def _above(theirs: NDArray, scores: Scores, used: NDArray[np.bool_]) -> Estimate | None:
    """The headline less the baseline, over some of the data; None where there is no headline or no such example."""
    if "log_likelihood" not in scores or not used.any():
        return None
    error = scores["stderr_best"][used] if "stderr_best" in scores else None
    return Estimate.paired(scores["log_likelihood"][used], theirs[used], error)
