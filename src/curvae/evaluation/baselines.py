"""The baselines of an evaluation: fitted to the run's own training rows, scored on the rows that were evaluated."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.baselines import Baseline, fit_beside
from curvae.data import ArrayTable, Data, DataError
from curvae.evaluation.baseline_results import PREFIX, BaselineResult
from curvae.evaluation.summary import finite, flagged
from curvae.evaluation.values import Estimate
from curvae.evaluation.weighing import Scores
from curvae.io.errors import reason
from curvae.systems import System
from curvae.training.errors import RunError
from curvae.training.run.run_folder import RunFolder


def fitted(run: RunFolder, system: System, data: Data) -> tuple[Baseline, ...]:
    """The baselines of a run, in the units of the data that it is evaluated on; or why there are none, in one line."""
    training = _training(run, data)
    if isinstance(training, str):
        return (Baseline("none", note=training),)
    return fit_beside(system, training.train, data.spec)


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


def scored(baselines: Sequence[Baseline], table: ArrayTable, scores: Scores) -> Scores:
    """``log p(x)`` of each row that was scored, of every baseline that there is."""
    batch = table.batch(torch.from_numpy(scores["index"]))
    there = [each for each in baselines if each.density is not None]
    return {PREFIX + each.name: each.log_prob(batch.x, batch.mask).numpy() for each in there}


def summarize_baselines(baselines: Sequence[Baseline], values: Scores, scores: Scores) -> tuple[BaselineResult, ...]:
    """Each baseline beside the headline: over the data whose estimates are finite, as every other mean.

    Args:
        baselines: fitted.
        values: from :func:`scored`.
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
    """The headline less the baseline, over some of the data; None where there is no headline or no such datum."""
    if "log_likelihood" not in scores or not used.any():
        return None
    error = scores["stderr_best"][used] if "stderr_best" in scores else None
    return Estimate.paired(scores["log_likelihood"][used], theirs[used], error)
