"""From scores of each datum to the evaluation of a table, and to warnings in plain words."""

import math
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.curvature import Status, not_ok
from curvae.evaluation.likelihood.diagnostics import ESS_BAD
from curvae.evaluation.likelihood.estimation import finite, flagged, wanting
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD, PROPOSALS
from curvae.evaluation.likelihood.weighted_draws import Scores
from curvae.evaluation.results import Estimate, Evaluation, ProposalResult, Summary
from curvae.evaluation.warnings import ACTIVE, warn


def summarize(scores: Scores, levels: float | None = None, stderr: float | None = None, **facts: Any) -> Evaluation:
    """The evaluation of scored data; data whose estimates are not finite are counted and left out of every mean.

    Args:
        scores: from :func:`curvae.evaluation.score`.
        levels: grey levels within 1 of the unit, for bits per dimension of one level; None = bits mean nothing here.
        stderr: the error of each datum that was asked for, nats.
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
    proposals = {name: _proposal(name, used) for name in ("best", *PROPOSALS) if f"log_likelihood_{name}" in used}
    bad = flagged(scores)
    result = Evaluation(
        log_likelihood=_mean_of("log_likelihood", used),
        trusted=_trusted(scores, bad),
        flagged=int(bad.sum()),
        chosen=_chosen(used),
        draws=_draws(used, stderr),
        smoothed=_mean_of("log_likelihood_smoothed", used),
        normalizer=_mean(used["normalizer"]) if "normalizer" in used else 0.0,
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


def _mean_of(name: str, used: Scores) -> Estimate | None:
    """The mean of estimates over data, with the part of its error that is theirs."""
    if name not in used:
        return None
    error = used.get("stderr_smoothed" if name == "log_likelihood_smoothed" else "stderr_best")
    return Estimate.of(used[name], error)


def _trusted(scores: Scores, bad: NDArray[np.bool_]) -> Estimate | None:
    if "khat_best" not in scores or bad.all():
        return None
    return _mean_of("log_likelihood", {name: values[~bad] for name, values in scores.items()})


def _chosen(used: Scores) -> dict[str, float]:
    """Share of data by the proposal that is best for them."""
    if "proposal" not in used or len(used["proposal"]) == 0:
        return {}
    shares = {name: float((used["proposal"] == code).mean()) for code, name in enumerate(PROPOSALS)}
    return {name: share for name, share in shares.items() if share > 0}


def _draws(used: Scores, stderr: float | None) -> Summary | None:
    """How many draws each datum took, where that was left to the data."""
    if stderr is None or "draws" not in used or len(used["draws"]) == 0:
        return None
    return Summary.of(used["draws"].astype(np.float64), np.max, wanting(used, stderr))


def _proposal(name: str, used: Scores) -> ProposalResult:
    kept = np.isfinite(used[f"log_likelihood_{name}"])
    estimate = Estimate.of(used[f"log_likelihood_{name}"][kept], used[f"stderr_{name}"][kept])
    ess, khat = used[f"ess_{name}"][kept], used[f"khat_{name}"][kept]
    status = used.get("status" if name == "own" else f"status_{name}")
    return ProposalResult(
        estimate,
        Summary.of(ess, np.min, ess < ESS_BAD),
        Summary.of(khat, np.max, khat > KHAT_BAD),
        {} if status is None else _shares(status),
    )


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
    activity = used["mean"].astype(np.float64).var(0) if len(used["mean"]) > 1 else None
    error = used["squared_error"].astype(np.float64).sum() / max(1, used["size"].sum())
    each = used["kl_each"].mean(0, dtype=np.float64).tolist() if "kl_each" in used else None
    return {
        "kl": Estimate.of(used["kl"].astype(np.float64)),
        "kl_per_dimension": None if each is None else tuple(each),
        "active_units": None if activity is None else int((activity > ACTIVE).sum()),
        "activity": None if activity is None else tuple(activity.tolist()),
        "reconstruction_error": float(np.sqrt(error)) if np.isfinite(error) else None,
    }


def _mean(values: NDArray) -> float:
    return float(values.mean()) if len(values) else math.nan
