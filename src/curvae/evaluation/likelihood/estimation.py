"""log p(x) of a batch by every proposal it has, and the best of them for each example, from the draws that it needs."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.evaluation.estimate import Scores
from curvae.evaluation.likelihood.diagnostics import Estimates
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD, PROPOSALS, best_by_khat, pick
from curvae.evaluation.likelihood.weighted_draws import Draw, Sampling, WeightSet, measure_each_at_its_effort

NAMED = ("log_likelihood", "stderr", "limit", "ess", "khat")
"""What a table of scores has of each proposal."""


def estimate_by_proposals(
    draw: Draw, count: int, sampling: Sampling, shift: NDArray | float = 0.0, enumerated: bool = False
) -> Scores:
    """Estimates from each proposal and the best of them, with as many draws as each example asks for.

    Args:
        draw: new draws of some rows.
        count: number of data B.
        sampling: how many draws, and how; where an error is wanted, see :func:`factors`.
        shift: standard error of the common proposal's normalizer, nats, ``(B,)``.
        enumerated: the draws are all states, once: nothing is random, and k-hat means nothing.

    Returns:
        ``log_likelihood_*``, ``stderr_*``, ``limit_*``, ``ess_*`` and ``khat_*`` of each proposal, of the ``best`` and,
        where asked for, ``smoothed``; ``log_likelihood``, ``elbo``, ``proposal`` (code of the best one) and ``draws``.
    """
    times = np.ones(count, dtype=np.int64)
    if sampling.stderr is not None and not enumerated:
        times = factors(draw, count, sampling, sampling.stderr)
    shift = np.broadcast_to(shift, count)

    def measure(factor: int, rows: NDArray[np.int64]) -> Scores:
        sets = draw(torch.from_numpy(rows), factor * sampling.samples)
        return scores_by_proposal(sets, factor * sampling.samples, sampling.smooth, shift[rows], enumerated)

    return measure_each_at_its_effort(times, measure)


def factors(draw: Draw, count: int, sampling: Sampling, stderr: float) -> NDArray[np.int64]:
    """How many times S draws each example is to get for the error that is wanted: 1, 2, 4 ... up to ``most``, ``(B,)``.

    ``S / 2`` draws say so, by the error of the best proposal from them; where its k-hat is above 0.7 the answer is
    ``most``. They are not averaged afterwards: stopping when the error of the averaged draws themselves looks small
    would be biased, low with narrow proposals, whose error looks small where a large weight was missed, and high with
    wide ones. As it is, the estimates are as unbiased as those of a fixed number of draws.
    """
    size = sampling.samples // 2
    _, best = best_by_khat({name: weights.estimates() for name, weights in draw(torch.arange(count), size).items()})
    with np.errstate(all="ignore"):
        needed = np.square(best.stderr / stderr) * size / sampling.samples
    highest = int(math.log2(sampling.most))
    steps = np.ceil(np.log2(np.clip(np.nan_to_num(needed, nan=np.inf), 1, 2.0**highest))).astype(np.int64)
    return 2 ** np.where(best.khat > KHAT_BAD, highest, steps)


def scores_by_proposal(
    sets: Mapping[str, WeightSet], drawn: int, smooth: bool, shift: NDArray, enumerated: bool
) -> Scores:
    """What the weights of each proposal say, and which is best."""
    found = {name: weights.estimates() for name, weights in sets.items()}
    found = {name: each if name == "own" else shifted(each, shift) for name, each in found.items()}
    if enumerated:
        found = {name: surely(each) for name, each in found.items()}
    codes, best = best_by_khat(found)
    scores = {"log_likelihood": best.log_likelihood, "proposal": codes, "draws": np.full(len(codes), drawn)}
    scores["elbo"] = found["own"].elbo
    for name, each in (found | {"best": best}).items():
        scores |= scores_named(name, each)
    if smooth:
        scores |= scores_named("smoothed", pick({name: weights.smoothed() for name, weights in sets.items()}, codes))
    return scores


def replaced(found: Scores, rows: NDArray[np.int64], other: Scores) -> Scores:
    """With the estimates of a further proposal, called "own" there, as the best of some rows."""
    taken = {"log_likelihood": other["log_likelihood"], "draws": np.maximum(found["draws"][rows], other["draws"])}
    taken |= {"proposal": np.full(len(rows), PROPOSALS.index("chains"))}
    for name in ("best", "smoothed"):
        taken |= {key: value for key, value in other.items() if key.endswith(f"_{name}")}
    found = {name: values.copy() for name, values in found.items()}
    for name, values in taken.items():
        found[name][rows] = values
    return found


def disagree(scores: Scores) -> NDArray[np.bool_]:
    """Where a proposal that can be trusted says more than the best one, by three of the errors of their difference.

    Estimates that miss a part of the posterior are too low, and neither k-hat nor more draws show it; another proposal
    that reaches that part does.
    """
    best = scores.get("log_likelihood", np.array(np.nan))
    found = np.zeros(len(scores["khat_best"]), dtype=bool)
    with np.errstate(all="ignore"):
        for name in PROPOSALS:
            if (key := f"khat_{name}") not in scores or f"limit_{name}" not in scores:
                continue
            error = np.hypot(scores[f"limit_{name}"], scores["limit_best"])
            more = scores[f"log_likelihood_{name}"] - best > 3 * error
            found |= more & (scores[key] <= KHAT_BAD)
    return found


def wanting(found: Scores, stderr: float) -> NDArray[np.bool_]:
    """Which data have an error above the wanted one, or one that cannot be trusted."""
    return ~(found["stderr_best"] <= stderr) | (found["khat_best"] > KHAT_BAD)


def shifted(found: Estimates, error: NDArray) -> Estimates:
    """With the error of a proposal's normalizer, which moves all its weights alike."""
    return found._replace(stderr=np.hypot(found.stderr, error), limit=np.hypot(found.limit, error))


def surely(found: Estimates) -> Estimates:
    """Of all states, once: there is no error, and no tail."""
    return found._replace(stderr=0 * found.stderr, limit=0 * found.stderr, khat=np.nan * found.khat)


def scores_named(proposal: str, found: Estimates) -> Scores:
    """The estimates from one proposal, by their names in a table of scores."""
    return {f"{name}_{proposal}": getattr(found, name) for name in NAMED}


def finite(scores: Scores) -> NDArray[np.bool_]:
    """Which data have finite estimates throughout; the mixture of proposals may fail by itself."""
    names = ("log_likelihood", "log_likelihood_own", "log_likelihood_laplace", "elbo", "log_det")
    return np.logical_and.reduce([np.isfinite(scores[name]) for name in names if name in scores])


def flagged(scores: Scores) -> NDArray[np.bool_]:
    """Which data have no estimate of log p(x) to be trusted.

    It is not finite, k-hat is above 0.7 with the best proposal, or another one says significantly more.
    """
    bad = ~finite(scores)
    return bad | (scores["khat_best"] > KHAT_BAD) | disagree(scores) if "khat_best" in scores else bad
