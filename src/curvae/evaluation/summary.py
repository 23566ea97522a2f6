"""From scores of each datum to the evaluation of a table, and to warnings in plain words."""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.curvature import Status, not_ok
from curvae.evaluation.diagnostics import KHAT_DRAWS
from curvae.evaluation.results import AnnealedResult, Estimate, Evaluation, ProposalResult, Summary
from curvae.evaluation.scores import Scores

KHAT_BAD = 0.7
"""Above it an importance estimate and its error cannot be trusted."""
ESS_BAD = 10
"""Below it a few lucky draws carry the estimate."""
ACTIVE = 1e-2
"""Least variance over data of the posterior mean of an active unit."""
ENDS = {
    "max_steps": "it ran out of steps more than a tenth of a nat from the mode",
    "not_psd": "the precision needed jitter",
    "nonfinite": "a value was not finite",
}
"""What a status means, in words."""
OBJECTIVES = {
    "upper": "Training took an upper bound of log p(x)",
    "none": "Training took an objective that is no bound of log p(x)",
}
PROPOSALS = {"own": "the system's own posterior", "laplace": "the common proposal"}


def summarize(scores: Scores, levels: float | None = None, **facts: Any) -> Evaluation:
    """The evaluation of scored data; data whose estimates are not finite are counted and left out of every mean.

    Args:
        scores: from :func:`curvae.evaluation.score`.
        levels: grey levels within 1 of the unit, for bits per dimension of one level; None = bits mean nothing here.
        facts: other fields of the evaluation: ``unit``, ``samples``, ``split``, ``seed``, ``evidence``, ``objective``,
            ``seconds``.

    Example:
        >>> import numpy as np
        >>> values = np.array([-1.0, np.nan, -3.0])
        >>> scores = {"index": np.arange(3), "log_likelihood": values, "elbo": values, "log_det": np.zeros(3)}
        >>> result = summarize(scores)
        >>> result.log_likelihood.value, result.count, result.excluded
        (-2.0, 3, 1)
        >>> result.warnings
        ('1 of 3 data gave estimates that are not finite; they are left out of every mean.',)
    """
    kept = finite(scores)
    used = {name: values[kept] for name, values in scores.items()}
    proposals = {name: _proposal(name, used) for name in PROPOSALS if f"log_likelihood_{name}" in used}
    result = Evaluation(
        log_likelihood=_headline(used, proposals),
        elbo=Estimate.of(used["elbo"]) if "elbo" in used else None,
        log_det=_mean(used["log_det"]),
        bits_per_dim=_bits(used, levels) if levels and "log_likelihood" in used else None,
        status=_shares(scores["status"]) if "status" in scores else {},
        excluded=int((~kept).sum()),
        count=len(kept),
        **proposals,
        **_latents(used),
        **facts,
    )
    return replace(result, warnings=tuple(warn(result)))


def summarize_annealed(found: Scores, scores: Scores, temperatures: int, chains: int) -> AnnealedResult:
    """Annealed importance sampling of some data, beside the headline of the same ones; only where both are finite."""
    rows = np.searchsorted(scores["index"], found["index_ais"])
    headline = scores["log_likelihood"][rows] if "log_likelihood" in scores else None
    value = found["log_likelihood_ais"]
    kept = np.isfinite(value) & (True if headline is None else np.isfinite(headline))
    error, ess = found["stderr_ais"][kept], found["ess_ais"][kept]
    difference = None if headline is None else Estimate.of((value - headline)[kept], error)
    return AnnealedResult(
        Estimate.of(value[kept], error),
        _spread(ess, np.min, ess < ESS_BAD),
        _mean(found["acceptance_ais"][kept]),
        temperatures,
        chains,
        int(kept.sum()),
        difference,
    )


def finite(scores: Scores) -> NDArray[np.bool_]:
    """Which data have finite estimates throughout."""
    names = [name for name in scores if name.startswith(("log_likelihood", "elbo"))] + ["log_det"]
    return np.logical_and.reduce([np.isfinite(scores[name]) for name in names])


def _headline(used: Scores, proposals: Mapping[str, ProposalResult]) -> Estimate | None:
    if "log_likelihood" not in used:
        return None
    behind = proposals.get("laplace") or proposals.get("own")
    return behind.log_likelihood if behind else Estimate.of(used["log_likelihood"])


def _proposal(name: str, used: Scores) -> ProposalResult:
    estimate = Estimate.of(used[f"log_likelihood_{name}"], used[f"stderr_{name}"])
    ess, khat = used[f"ess_{name}"], used[f"khat_{name}"]
    status = used.get("status" if name == "own" else f"status_{name}")
    return ProposalResult(
        estimate,
        _spread(ess, np.min, ess < ESS_BAD),
        _spread(khat, np.max, khat > KHAT_BAD),
        {} if status is None else _shares(status),
    )


def _spread(values: NDArray, worst: Any, bad: NDArray) -> Summary:
    known = ~np.isnan(values)
    if not known.any():
        return Summary(math.nan, math.nan, math.nan)
    return Summary(float(np.median(values[known])), float(worst(values[known])), float(bad[known].mean()))


def _shares(status: NDArray) -> dict[str, float]:
    """Share of data by name of the status, of those that count as not ok."""
    bad = not_ok(torch.tensor([int(code) for code in Status])).tolist()
    shares = {code.name.lower(): float((status == code).mean()) for code in compress(Status, bad)}
    return {name: share for name, share in shares.items() if share > 0}


def _bits(used: Scores, levels: float) -> Estimate:
    """``-log2 p`` of one raw level, per observed element."""
    raw = used["log_likelihood"] + used["log_det"]
    return Estimate.of(math.log2(levels) - raw / (math.log(2) * used["size"].mean()))


def _latents(used: Scores) -> dict[str, Any]:
    if "mean" not in used or len(used["mean"]) == 0:
        return {}
    activity = used["mean"].astype(np.float64).var(0)
    error = used["squared_error"].astype(np.float64).sum() / max(1, used["size"].sum())
    each = used["kl_each"].mean(0, dtype=np.float64).tolist() if "kl_each" in used else None
    return {
        "kl": Estimate.of(used["kl"].astype(np.float64)),
        "kl_per_dimension": None if each is None else tuple(each),
        "active_units": int((activity > ACTIVE).sum()),
        "activity": tuple(activity.tolist()),
        "reconstruction_error": float(np.sqrt(error)) if np.isfinite(error) else None,
    }


def _mean(values: NDArray) -> float:
    return float(values.mean()) if len(values) else math.nan


def warn(result: Evaluation) -> list[str]:
    """What to be careful about, one sentence each."""
    said = []
    if result.excluded:
        said.append(
            f"{result.excluded:,} of {result.count:,} data gave estimates that are not finite; they are left out of "
            "every mean."
        )
    if result.objective in OBJECTIVES:
        words = OBJECTIVES[result.objective]
        said.append(f"{words}: it is not reported; log p(x) and the ELBO are those of weighted draws.")
    if result.evidence == "none":
        said.append("This system gives no evidence: it has no log-likelihood, and none is estimated.")
    for name, words in PROPOSALS.items():
        proposal = getattr(result, name)
        said += [] if proposal is None else _warn_proposal(proposal, words, result.samples)
    said += [] if result.ais is None else _warn_annealed(result.ais)
    if result.activity is not None and result.active_units != len(result.activity):
        idle = len(result.activity) - (result.active_units or 0)
        said.append(
            f"{idle} of {len(result.activity)} latent dimensions are collapsed: their posterior mean varies by less "
            f"than {ACTIVE} over the data."
        )
    if result.status:
        ends = "; ".join(f"{ENDS.get(name, name)} for {share:.1%}" for name, share in result.status.items())
        said.append(f"The mode search of the system's own inference fell short for part of the data: {ends}.")
    return said


def _warn_annealed(found: AnnealedResult) -> list[str]:
    if found.difference is None or not found.difference.value > 4 * found.difference.monte_carlo + 0.05:
        return []
    return [
        f"Annealed importance sampling finds {found.difference.value:.2f} nats more than log p(x) above, for the same "
        f"{found.count} data. Both err low: the proposals miss a part of the posterior."
    ]


def _warn_proposal(proposal: ProposalResult, words: str, samples: int) -> list[str]:
    said = []
    if proposal.khat.flagged > 0:
        said.append(
            f"k-hat is above {KHAT_BAD} for {proposal.khat.flagged:.1%} of the data with draws from {words}: for these "
            "neither log p(x) nor its error can be trusted, and more draws help slowly."
        )
    if math.isnan(proposal.khat.median) and samples < KHAT_DRAWS:
        said.append(f"k-hat is not known for {words}: it needs {KHAT_DRAWS} draws a datum or more, not {samples}.")
    if proposal.ess.flagged > 0:
        said.append(
            f"Fewer than {ESS_BAD} draws from {words} count (effective sample size) for {proposal.ess.flagged:.1%} of "
            "the data."
        )
    return said
