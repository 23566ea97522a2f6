"""log p(x) and its bounds over a table: means of what was scored, and how they are told and warned of."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.curvature import Status, not_ok
from curvae.evaluation.estimate import Estimate, Scores, Summary
from curvae.evaluation.formatting import NONE, format_count, format_estimate, format_number, format_share
from curvae.evaluation.likelihood.diagnostics import ESS_BAD, KHAT_DRAWS
from curvae.evaluation.likelihood.estimation import finite, flagged, wanting
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD, KHAT_GOOD, PROPOSALS
from curvae.evaluation.metric import Section

if TYPE_CHECKING:
    from curvae.evaluation.results import Evaluation

OBJECTIVES = {
    "upper": "Training took an upper bound of log p(x)",
    "none": "Training took an objective that is no bound of log p(x)",
}
PRINTED = {"own": "its own posterior", "laplace": "the common proposal", "defensive": "both together"}
PRINTED |= {"chains": "chains, where these fail"}
SOURCES = {"laplace": "the common Laplace proposal", "own": "the system’s own posterior", "defensive": "both together"}
SOURCES |= {"chains": "one fitted to short chains"}
TABLED = {"laplace": "common Laplace", "own": "system’s own posterior", "defensive": "both, half each"}
TABLED |= {"chains": "fitted to chains, where these fail", "best": "best of each datum"}
"""What a proposal is called: in the printed table, in warnings, in sentences and in the table of the report."""
TITLES = "Proposal", "log p(x), nats", "Error of the draws", "Draws that count", "k-hat", f"k-hat > {KHAT_BAD:g}"


@dataclass(frozen=True)
class ProposalResult:
    """Importance sampling with draws from one proposal."""

    log_likelihood: Estimate
    """Nats per example."""
    ess: Summary
    """In draws; flagged below 10."""
    khat: Summary
    """Flagged above 0.7; NaN with fewer than 25 draws."""
    status: Mapping[str, float] = field(default_factory=dict)
    """Share of data, by name, whose mode search did not end well."""

    def __str__(self) -> str:
        worst = f"k-hat {self.khat.median:.2f}, worst {self.khat.worst:.2f}"
        known = "k-hat not known" if math.isnan(self.khat.median) else worst
        return f"{self.log_likelihood} (effective draws {self.ess.median:.0f}, worst {self.ess.worst:.0f}; {known})"

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the report, as :data:`TITLES` names them."""
        return (
            format_estimate(self.log_likelihood),
            format_number(self.log_likelihood.monte_carlo, figures=2),
            f"{format_number(self.ess.median, figures=3)} ({format_number(self.ess.worst, figures=3)})",
            f"{format_number(self.khat.median, figures=2)} ({format_number(self.khat.worst, figures=2)})",
            format_share(self.khat.flagged, 1) if math.isfinite(self.khat.flagged) else NONE,
        )

    def warnings(self, words: str, samples: int, flags: bool = True) -> Iterator[str]:
        """With what the proposal is called, the number of draws, and whether a bad k-hat is not told elsewhere."""
        if flags and self.khat.flagged > 0:
            yield (
                f"k-hat is above {KHAT_BAD} for {self.khat.flagged:.1%} of the data with draws from {words}: for these "
                "neither log p(x) from there nor its error can be trusted, and more draws help slowly."
            )
        if math.isnan(self.khat.median) and samples < KHAT_DRAWS:
            yield f"k-hat is not known for {words}: it needs {KHAT_DRAWS} draws a datum or more, not {samples}."
        if self.ess.flagged > 0:
            yield (
                f"Fewer than {ESS_BAD} draws from {words} count (effective sample size) for {self.ess.flagged:.1%} of "
                "the data."
            )


def summarize_likelihood(scores: Scores, levels: float | None, stderr: float | None) -> dict[str, Any]:
    """The fields of an evaluation that are about log p(x), from :func:`curvae.evaluation.score`."""
    kept, bad = finite(scores), flagged(scores)
    used = {name: values[kept] for name, values in scores.items()}
    made = [name for name in ("best", *PROPOSALS) if f"log_likelihood_{name}" in used]
    if "chains" in made and not np.isfinite(used["log_likelihood_chains"]).any():
        made.remove("chains")
    return {
        "log_likelihood": _mean_of("log_likelihood", used),
        "trusted": _trusted(scores, bad),
        "flagged": int(bad.sum()),
        "chosen": _chosen(used),
        "draws": _draws(used, stderr),
        "smoothed": _mean_of("log_likelihood_smoothed", used),
        "normalizer": _mean(used["normalizer"]) if "normalizer" in used else 0.0,
        "elbo": Estimate.of(used["elbo"]) if "elbo" in used else None,
        "log_det": _mean(used["log_det"]),
        "bits_per_dim": _bits(used, levels) if levels and "log_likelihood" in used else None,
        "excluded": int((~kept).sum()),
        "count": len(kept),
        **{name: _proposal(name, used) for name in made},
    }


def status_shares(status: NDArray) -> dict[str, float]:
    """Share of data by name of the status, of those that are :func:`curvae.curvature.not_ok`."""
    bad = not_ok(torch.tensor([int(code) for code in Status])).tolist()
    found = {code.name.lower(): float((status == code).mean()) for code in compress(Status, bad)}
    return {name: part for name, part in found.items() if part > 0}


def _mean(values: NDArray) -> float:
    return float(values.mean()) if len(values) else math.nan


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
    found = {name: float((used["proposal"] == code).mean()) for code, name in enumerate(PROPOSALS)}
    return {name: part for name, part in found.items() if part > 0}


def _draws(used: Scores, stderr: float | None) -> Summary | None:
    """How many draws each example took, where that was left to the data."""
    if stderr is None or "draws" not in used or len(used["draws"]) == 0:
        return None
    return Summary.of(used["draws"].astype(np.float64), np.max, wanting(used, stderr))


def _proposal(name: str, used: Scores) -> ProposalResult:
    kept = np.isfinite(used[f"log_likelihood_{name}"])
    value, error, ess, khat = (used[f"{what}_{name}"][kept] for what in ("log_likelihood", "stderr", "ess", "khat"))
    status = used.get("status" if name == "own" else f"status_{name}")
    return ProposalResult(
        Estimate.of(value, error),
        Summary.of(ess, np.min, ess < ESS_BAD),
        Summary.of(khat, np.max, khat > KHAT_BAD),
        {} if status is None else status_shares(status),
    )


def _bits(used: Scores, levels: float) -> Estimate:
    """``-log2 p`` of one raw level, per observed element."""
    raw = used["log_likelihood"] + used["log_det"]
    return Estimate.of(math.log2(levels) - raw / (math.log(2) * used["size"].mean()))


def printed_rows(found: "Evaluation") -> Iterator[tuple[str, str]]:
    """Of the printed table: log p(x), its bounds, and the proposals and draws behind it."""
    nats = {"log p(x), nats": found.log_likelihood, "ELBO, nats": found.elbo, "KL(q || prior), nats": found.kl}
    yield from ((name, str(value)) for name, value in nats.items() if value)
    if found.bits_per_dim:
        yield "bits per dimension", f"{found.bits_per_dim:.4f}"
    if found.best is not None and found.flagged:
        bad = f"{found.flagged:,} of {found.count:,} data flagged"
        yield "  over the data not flagged", f"{found.trusted or 'none is left'} ({bad})"
    if found.smoothed is not None:
        yield "  by smoothed weights", str(found.smoothed)
    for name, words in PRINTED.items():
        if (proposal := getattr(found, name)) is not None:
            best = f"; best for {found.chosen.get(name, 0):.0%}" if len(found.chosen) > 1 else ""
            yield f"  from {words}", f"{proposal}{best}"
    if (draws := found.draws) is not None:
        yield "  draws", f"{draws.median:,.0f}, most {draws.worst:,.0f}; not enough for {draws.flagged:.1%}"


def density_row(found: "Evaluation") -> Iterator[tuple[str, str]]:
    """Of what log p(x) is a density."""
    if found.unit and found.log_likelihood:
        yield "a density of", f"{found.unit}, with {found.log_det:+,.2f} nats for the transform beside log p(x)"


def likelihood_warnings(found: "Evaluation") -> Iterator[str]:
    """What to be careful about, one sentence each."""
    if found.excluded:
        yield (
            f"{found.excluded:,} of {found.count:,} data gave estimates that are not finite; they are left out of "
            "every mean."
        )
    if found.objective in OBJECTIVES and found.evidence != "exact":
        words = OBJECTIVES[found.objective]
        yield f"{words}: it is not reported; log p(x) and the ELBO are those of weighted draws."
    if found.evidence == "none":
        yield "This system gives no evidence: it has no log-likelihood, and none is estimated."
    if found.best is not None and found.flagged:
        apart = "none is left" if found.trusted is None else f"over the others it is {found.trusted} nats"
        yield (
            f"{found.flagged:,} of {found.count:,} data ({found.flagged / found.count:.1%}) are flagged: k-hat is "
            f"above {KHAT_BAD} with the best proposal, another one says significantly more, or an estimate is not "
            f"finite. log p(x) over all finite ones is {found.log_likelihood} nats; {apart}."
        )
    if found.draws is not None and found.draws.flagged > 0:
        yield (
            f"{found.draws.flagged:.1%} of the data do not have the error that was asked for, or a k-hat above "
            f"{KHAT_BAD}, after {found.draws.worst:,.0f} draws."
        )
    if found.normalizer > 0:
        yield (
            f"The normalizer of the common proposal is itself an estimate: an error of {found.normalizer:.2f} nats "
            "that the data share is in log p(x) from there, beside what stands after ±."
        )
    if found.best is not None:
        yield from found.best.warnings("the best proposal", found.samples, flags=False)
        return
    for proposal, words in ((found.own, "the system's own posterior"), (found.laplace, "the common proposal")):
        yield from () if proposal is None else proposal.warnings(words, found.samples)


def likelihood_report_rows(found: "Evaluation") -> Iterator[tuple[str, str, str]]:
    """Rows of the report on log p(x)."""
    if found.log_likelihood is None:
        return
    origin = "exact" if found.headline is None else f"by importance sampling from {source(found)}"
    text = f"The log-likelihood of a datum, {origin}. Higher is better."
    yield "log p(x)", f"{format_estimate(found.log_likelihood)} nats", text
    if found.best is not None and found.flagged:
        value = NONE if found.trusted is None else f"{format_estimate(found.trusted)} nats"
        text = (
            f"The same without the {format_count(found.flagged, 'datum that is', 'data that are')} flagged "
            f"({format_share(found.flagged, found.count)}): k-hat above {KHAT_BAD:g}, proposals disagree, or "
            "not finite."
        )
        yield "log p(x), not flagged", value, text
    if found.smoothed is not None:
        text = "The same from Pareto-smoothed weights, which vary less and are not quite unbiased."
        yield "log p(x), smoothed", f"{format_estimate(found.smoothed)} nats", text


def bound_report_rows(found: "Evaluation", arrays: Mapping[str, NDArray]) -> Iterator[tuple[str, str, str]]:
    """Rows of the report on the bounds of log p(x), and on bits; from the values of each example, too."""
    if found.elbo is not None:
        text = "The evidence lower bound with the system’s own posterior."
        yield "ELBO", f"{format_estimate(found.elbo)} nats", text
    if (gap := inference_gap(arrays)) is not None:
        text = "log p(x) − ELBO, paired by datum: what the approximate posterior costs. Zero would be exact."
        yield "Inference gap", f"{format_estimate(gap)} nats", text
    if found.kl is not None:
        text = "Divergence of the posterior from the prior: what the latents say about a datum."
        yield "KL to the prior", f"{format_estimate(found.kl)} nats", text
    if found.bits_per_dim is not None:
        of = f" Unit: {found.unit}." if found.unit else ""
        text = f"−log₂ p(x) per dimension of the data; lower is better.{of}"
        yield "Bits per dimension", f"{format_estimate(found.bits_per_dim)} bits/dim", text


def inference_gap(arrays: Mapping[str, NDArray]) -> Estimate | None:
    """The mean of ``log p(x) - ELBO``, nats; its error is that of the paired differences."""
    total, elbo = arrays.get("log_likelihood"), arrays.get("elbo")
    if total is None or elbo is None:
        return None
    kept = np.isfinite(total) & np.isfinite(elbo) & arrays.get("finite", True)
    return Estimate.of(total[kept] - elbo[kept]) if kept.any() else None


def proposals_section(found: "Evaluation") -> Section | None:
    """The proposals side by side: what each estimates, and how far it can be trusted."""
    parts = {words: part for name, words in TABLED.items() if (part := getattr(found, name)) is not None}
    if not parts:
        return None
    note = (
        "The common proposal is the Laplace posterior at the modes that several searches find, slightly widened, and "
        "the same for every system. Where it fails, the best proposal is one fitted to short chains if its k-hat is at "
        f"most {KHAT_BAD:g}; elsewhere the common one up to a k-hat of {KHAT_GOOD:g}, or the one of the smallest k-hat"
        f"{_how_often(found)}. “Error of the draws” (nats) is the part of the error that more draws would lower. "
        "“Draws that count” is the effective sample size and k-hat the Pareto shape of the weights, both as medians "
        f"with the worst datum in brackets; above {KHAT_BAD:g} an estimate is not to be trusted."
    )
    table = tuple((words, *part.cells) for words, part in parts.items())
    return Section("sampling", "Importance sampling", TITLES, table, note)


def source(found: "Evaluation") -> str:
    """Where the headline was sampled from."""
    if len(found.chosen) > 1:
        return "the best proposal of each datum"
    return SOURCES[next(iter(found.chosen), "laplace" if found.laplace else "own")]


def _how_often(found: "Evaluation") -> str:
    """How often each proposal is best, in brackets."""
    said = [f"{SOURCES[name]} for {format_share(part, 1)}" for name, part in found.chosen.items()]
    return f" ({', '.join(said)})" if len(said) > 1 else ""
