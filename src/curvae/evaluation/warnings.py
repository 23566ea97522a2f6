"""What an evaluation warns of, in plain words."""

import math

from curvae.evaluation.likelihood.diagnostics import ESS_BAD, KHAT_DRAWS
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.results import Evaluation, ProposalResult

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
WORDS = {"own": "the system's own posterior", "laplace": "the common proposal"}
"""What a proposal is called; the mixture of both is seen through its parts."""


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
    said += _warn_flagged(result)
    for name, words in WORDS.items():
        proposal = getattr(result, name)
        said += [] if proposal is None else _warn_proposal(proposal, words, result.samples)
    said += [] if result.ais is None else result.ais.warnings
    if result.activity is not None and result.active_units != len(result.activity):
        idle = len(result.activity) - (result.active_units or 0)
        said.append(
            f"{idle} of {len(result.activity)} latent dimensions are collapsed: their posterior mean varies by less "
            f"than {ACTIVE} over the data."
        )
    if result.status:
        ends = "; ".join(f"{ENDS.get(name, name)} for {share:.1%}" for name, share in result.status.items())
        said.append(f"The mode search of the system's own inference fell short for part of the data: {ends}.")
    for finding in result.metrics.values():
        said += finding.warnings
    return said


def _warn_flagged(result: Evaluation) -> list[str]:
    """Data without an estimate to be trusted, and log p(x) with and without them; and draws that were not enough."""
    said = []
    if result.best is not None and result.flagged:
        apart = "none is left" if result.trusted is None else f"over the others it is {result.trusted} nats"
        said.append(
            f"{result.flagged:,} of {result.count:,} data ({result.flagged / result.count:.1%}) are flagged: k-hat is "
            f"above {KHAT_BAD} with the best proposal, or an estimate is not finite. log p(x) over all finite ones is "
            f"{result.log_likelihood} nats; {apart}."
        )
    if result.draws is not None and result.draws.flagged > 0:
        said.append(
            f"{result.draws.flagged:.1%} of the data do not have the error that was asked for, or a k-hat above "
            f"{KHAT_BAD}, after {result.draws.worst:,.0f} draws."
        )
    if result.normalizer > 0:
        said.append(
            f"The normalizer of the common proposal is itself an estimate: an error of {result.normalizer:.2f} nats "
            "that the data share is in log p(x) from there, beside what stands after ±."
        )
    return said


def _warn_proposal(proposal: ProposalResult, words: str, samples: int) -> list[str]:
    said = []
    if proposal.khat.flagged > 0:
        said.append(
            f"k-hat is above {KHAT_BAD} for {proposal.khat.flagged:.1%} of the data with draws from {words}: for these "
            "neither log p(x) from there nor its error can be trusted, and more draws help slowly."
        )
    if math.isnan(proposal.khat.median) and samples < KHAT_DRAWS:
        said.append(f"k-hat is not known for {words}: it needs {KHAT_DRAWS} draws a datum or more, not {samples}.")
    if proposal.ess.flagged > 0:
        said.append(
            f"Fewer than {ESS_BAD} draws from {words} count (effective sample size) for {proposal.ess.flagged:.1%} of "
            "the data."
        )
    return said
