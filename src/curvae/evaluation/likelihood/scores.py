"""Everything measured for each example of a table in one pass: inference is done once a batch and reused throughout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from curvae.argument_checks import check_counts, check_least
from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.information.posterior_summary import posterior_statistics
from curvae.evaluation.likelihood.chain_fitted import ChainFit
from curvae.evaluation.likelihood.diagnostics import KHAT_DRAWS, Estimates
from curvae.evaluation.likelihood.estimation import (
    NAMED,
    disagree,
    estimate_by_proposals,
    finite,
    replaced,
    scores_named,
)
from curvae.evaluation.likelihood.importance import exact, rows_within
from curvae.evaluation.likelihood.proposal import LARGE, common_proposal
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD, KHAT_GOOD
from curvae.evaluation.likelihood.weighted_draws import (
    Sampling,
    Scores,
    concatenate_scores,
    draws_from_both,
    draws_from_posterior,
    draws_from_system,
    rows_of_batch,
    rows_of_posterior,
)
from curvae.evaluation.settings import Settings, with_options
from curvae.inference import Inferred
from curvae.latents import Axes
from curvae.model import LatentVariableModel
from curvae.posteriors import StudentMixture
from curvae.progress import progress
from curvae.systems import HasDensity, HasModel, HasWeights, ScoresCodes, System, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.typing import Batch

Report = Callable[[int, float], None]
"""Called after each batch with the number of data done and the running log-likelihood, in nats."""

CACHED = 2**25
"""The most of its budget that a CPU takes at a time: larger draws fall out of its caches and are a fifth slower."""


def score(
    system: System,
    table: ArrayTable,
    settings: Settings | None = None,
    report: Report | None = None,
    axes: Axes | None = None,
    **options: Any,
) -> Scores:
    """Measure the first ``limit`` data of a table (all if None); the system and torch's own generator stay as they are.

    For each proposal (``own``: the system's posterior; ``laplace``: the common one, for a model of continuous
    latents; ``defensive``: half of each, from the same draws, where the own density is known at any z) and
    for the ``best`` of them: ``log_likelihood_*``, ``stderr_*``, ``limit_*`` (nats), ``ess_*`` (draws), ``khat_*``.
    Beside them ``index`` (row of the table), ``log_likelihood`` (the headline: exact where ``system.evidence`` is
    "exact", else the best), ``proposal`` (see :func:`curvae.evaluation.select_proposal`), ``draws``, ``elbo``,
    ``log_det`` (nats), ``size`` (observed elements), ``label`` and ``code_log_prob`` (nats) if any; and what
    :func:`curvae.evaluation.posterior_statistics` finds. A system whose evidence is "none" gets no log-likelihood.

    Args:
        system: what is measured, on its device.
        table: the data.
        settings: all of :class:`curvae.evaluation.Settings` but ``split`` and ``device``.
        report: called after each batch.
        axes: in which each latent is described; as they were trained if None.
        options: single settings by name, as ``samples=5000`` or ``limit=100``.

    Raises:
        ValueError: fewer than 1 samples, byte, example a batch, or example in all, or more than a billion of any but
            bytes; an error wanted that is not positive; a system that lacks what its ``evidence`` promises (HasDensity
            if "exact", HasWeights if "bound").

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = score(vae(data.spec, latent=2, hidden=8), data.test, samples=50)
        >>> found["log_likelihood_laplace"].shape == (len(data.test),)
        True
    """
    if unused := sorted({"split", "device"} & options.keys()):
        raise TypeError(f"score: {unused[0]} is a setting of evaluate alone; pass that table, a system on its device.")
    how = with_options(settings, Settings, options)
    samples, memory = how.samples, how.memory
    check_counts("evaluate", samples=samples, batch_size=how.batch_size, limit=how.limit, most=how.most)
    check_least("evaluate", 1, memory=memory)
    if how.stderr is not None and not (how.stderr > 0 and samples >= 2 * KHAT_DRAWS):
        raise ValueError(
            f"evaluate: stderr, the error wanted of each datum in nats, must be positive, and is seen from samples >= "
            f"{2 * KHAT_DRAWS}; got {how.stderr} and {samples} samples."
        )
    _promised(system)
    if (count := min(len(table), how.limit or len(table))) == 0:
        raise ValueError("evaluate: the table holds no data; expected 1 or more.")
    parts: list[Scores] = []
    batch_size = min(how.batch_size, _rows_of_matrices(system, memory))
    if device_and_dtype(system)[0].type == "cpu":
        memory = min(memory, CACHED)
    with seeded_evaluation(system, how.seed) as generator:
        size = min(batch_size, rows_within(system, batch_to_system(system, table.batch(torch.arange(1))), memory))
        sampling = Sampling(samples, memory, generator, how.stderr, how.most, how.smooth, how.chains)
        for index in torch.arange(count).split(size):
            parts.append(_measure(system, table, index, sampling, axes))
            if report is not None:
                report(int(index[-1]) + 1, mean_so_far(parts))
    return concatenate_scores(parts)


@contextmanager
def bar(total: int, wanted: bool = True) -> Iterator[Report | None]:
    """A function to call with the rows done and the running estimate; None where nothing is to be shown.

    Example:
        >>> with bar(10, wanted=False) as report:
        ...     report is None
        True
    """
    if not wanted:
        yield None
        return
    with progress(total) as work:

        def show(done: int, mean: float) -> None:
            work.show(done, f"evaluating {done}/{total}", f"log p(x) {mean:.2f} nats" if mean == mean else "")

        yield show


def _rows_of_matrices(system: System, memory: int) -> int:
    """For how many data the common proposal's precision, its factor and what they are made of fit the budget."""
    if not isinstance(system, HasModel) or (latents := sum(system.parts().model.prior.blocks)) > LARGE:
        return memory
    return max(1, memory // (4 * latents**2 * device_and_dtype(system)[1].itemsize))


def mean_so_far(parts: list[Scores]) -> float:
    """Mean of the headline over the data done so far, nats; NaN where there is none."""
    values = np.concatenate([part.get("log_likelihood", np.array([np.nan])) for part in parts])
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _measure(
    system: System, table: ArrayTable, index: Int[Tensor, " B"], sampling: Sampling, axes: Axes | None
) -> Scores:
    raw = table.batch(index)
    batch = batch_to_system(system, raw)
    observed = torch.ones_like(raw.x, dtype=torch.bool) if raw.mask is None else raw.mask
    found = {"index": index.numpy(), "size": observed.flatten(1).sum(1).cpu().numpy()}
    found["log_det"] = exact(table.transform.log_det(raw.x, raw.mask)).numpy()
    if raw.label is not None:
        found["label"] = raw.label.cpu().numpy()
    if isinstance(system, ScoresCodes):
        found["code_log_prob"] = exact(system.code_log_prob(batch.x, batch.mask)).numpy()
    if not isinstance(system, HasModel):
        return found | _evidence(system, batch, sampling)
    inferred = system.parts().infer(batch)
    found |= posterior_statistics(system.parts().model, inferred, batch, table.transform, axes)
    if system.evidence != "bound":
        return found | _evidence(system, batch, sampling)
    return found | score_by_proposals(system, inferred, batch, sampling)


def score_by_proposals(system: HasModel, inferred: Inferred, batch: Batch, sampling: Sampling) -> Scores:
    """Log p(x) of a batch by every proposal, and by the best of them, from one inference of each."""
    model, own, count = system.parts().model.given(batch.context), inferred.posterior, len(batch.x)
    if not model.prior.continuous:
        draw = draws_from_posterior(model, own, batch, sampling)
        return estimate_by_proposals(draw, count, sampling, enumerated=own.count(1) == own.count(2))
    common = common_proposal(system)(model, batch)
    draw = draws_from_both(model, own, common.posterior, batch, sampling)
    error = common.info.get("log_det_error", torch.zeros(count))
    normalizer = 0.5 * exact(error).numpy()
    found = estimate_by_proposals(draw, count, sampling, shift=normalizer)
    found |= {"status_laplace": common.info["status"].cpu().numpy(), "normalizer": normalizer}
    if sampling.chains and isinstance(common.posterior, StudentMixture):
        found = score_by_chains(model, batch, common.posterior, found, sampling)
    return found


def score_by_chains(
    model: LatentVariableModel, batch: Batch, common: StudentMixture, found: Scores, sampling: Sampling
) -> Scores:
    """The same with a further proposal, fitted to chains, for the examples that the others do not serve.

    These are those with a k-hat above 0.5 with the common proposal, alone or together with the system's own (an own
    posterior that is too narrow may have a good one), and those where a proposal says significantly more than the best:
    it has seen what that one has missed.
    """
    khat = np.maximum(found["khat_laplace"], found.get("khat_defensive", -np.inf))
    hard = np.flatnonzero(~(khat <= KHAT_GOOD) | disagree(found) | ~finite(found))
    chains = scores_named("chains", Estimates(*np.full((len(Estimates._fields), len(batch.x)), np.nan)))
    if len(hard):
        rows = torch.from_numpy(hard)
        part = rows_of_batch(batch, rows)
        q = ChainFit()(model.given(part.context), part, rows_of_posterior(common, rows), sampling.generator)
        own = estimate_by_proposals(draws_from_posterior(model, q, part, sampling), len(hard), sampling)
        for name in NAMED:
            chains[f"{name}_chains"][hard] = own[f"{name}_own"]
        better = (own["khat_own"] <= KHAT_BAD) | ~(own["khat_own"] >= found["khat_best"][hard])
        found = replaced(found, hard[better], {name: values[better] for name, values in own.items()})
    return found | chains


def _promised(system: System) -> None:
    """Complain of a system that lacks what its evidence promises."""
    promise = {"exact": HasDensity, "bound": HasWeights}.get(system.evidence)
    if promise is not None:
        require(system, promise, f"evaluate, evidence {system.evidence!r}")


def _evidence(system: System, batch: Batch, sampling: Sampling) -> Scores:
    """Log p(x) of a batch as its system gives it: the density itself, from weights, or not at all."""
    if system.evidence == "exact" and isinstance(system, HasDensity):
        return {"log_likelihood": exact(system.log_prob(batch.x, batch.mask)).numpy()}
    if system.evidence == "bound" and isinstance(system, HasWeights):
        return estimate_by_proposals(draws_from_system(system, batch, sampling), len(batch.x), sampling)
    return {}
