"""Findings in plain words. Plain text in and out: the page escapes it."""

import math

import numpy as np

from curvae.evaluation.formatting import format_count, format_share
from curvae.evaluation.information.posterior_summary import NOT_OK
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.results import Evaluation
from curvae.report.snapshot import Snapshot
from curvae.verdicts import Verdict, conclusion, evaluation_verdicts, training_verdicts


def verdict(run: Snapshot) -> str:
    """What the log-likelihood means, for someone who has not seen one."""
    evaluation = run.evaluation
    if origin := run.config.get("refit"):
        return (
            f"It was trained on all rows of `{origin['run']}`, as long as that took to its best; none is held out. How "
            "well it does on new rows is what that run's report says."
        )
    if evaluation is None and "evaluate" in run.stale:
        return f"There is no log-likelihood of these weights: {run.missing('evaluate')}"
    if evaluation is None:
        return f"There is no log-likelihood yet: run `curvae evaluate {run.name}`, then write the report again."
    found = evaluation.log_likelihood
    if found is None:
        return "This system gives no evidence, so no log-likelihood can be had; its pictures and its bound are below."
    words = [
        f"The mean over {format_count(evaluation.count, 'datum', 'data')} of the {evaluation.split} split, in nats "
        "per datum, with its standard error. Higher is better: one nat more makes the data e ≈ 2.7 times as likely.",
        trust(evaluation),
        conclusion(evaluation, _of_training(run)),
    ]
    return " ".join(word for word in words if word)


def _of_training(run: Snapshot) -> tuple[Verdict, ...]:
    judged = run.metrics and "refit" not in run.config
    return training_verdicts(run.metrics, f"`curvae fit --continue {run.name}`") if judged else ()


def trust(evaluation: Evaluation) -> str:
    """How far the log-likelihood can be relied on, by the k-hat of the proposal behind it; "" if not known."""
    if evaluation.evidence == "exact":
        return "It is exact, not an estimate."
    khat = evaluation.khat
    if khat is None or not math.isfinite(khat.flagged):
        return ""
    part = max(khat.flagged, evaluation.flagged / max(1, evaluation.count))
    flagged = format_share(part, 1)
    if part <= 0.01:
        return "The importance sampling behind it can be relied on for nearly every datum."
    if part <= 0.1:
        return f"The importance sampling behind it is unreliable for {flagged} of the data, where it tends to read low."
    return (
        f"Read it with care: the importance sampling behind it is unreliable for {flagged} of the data (k-hat above "
        f"{KHAT_BAD:g}), and such an estimate tends to be too low."
    )


def all_warnings(run: Snapshot) -> list[str]:
    """Everything a reader should know before believing the numbers; empty if there is nothing."""
    found = list(run.evaluation.warnings) if run.evaluation else []
    found += map(str, evaluation_verdicts(run.evaluation) if run.evaluation else ())
    found += map(str, _of_training(run))
    found += [f"What `curvae {command}` found is {run.missing(command)}" for command in run.stale]
    found += [f"An earlier curvae wrote what `curvae {c}` found, without saying of which weights." for c in run.unsure]
    state = run.status.get("state")
    if state not in (None, "finished"):
        reason = f" ({run.status['reason']})" if run.status.get("reason") else ""
        found.append(f"Training is not finished: its state is “{state}”{reason}. The model may still get better.")
    skipped = float(np.nansum(run.metrics.get("skipped", 0)))
    if skipped > 0:
        steps = format_count(skipped, "training step was", "training steps were")
        found.append(f"{steps} skipped because the loss or a gradient was not finite.")
    not_ok = run.metrics.get("not_ok", np.array([]))
    last = not_ok[np.isfinite(not_ok)][-1:]
    if run.evaluation is None and last.size and last[0] > 0:
        found.append(
            f"In the last epoch of training the mode search of {format_share(last[0], 1)} of the data {NOT_OK}."
        )
    return found
