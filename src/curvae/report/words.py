"""Numbers and findings in plain words. Plain text in and out: the page escapes it."""

import math

import numpy as np

from curvae.evaluation.results import Estimate, Evaluation
from curvae.report.figures import KHAT_LIMIT
from curvae.report.read import Snapshot
from curvae.verdicts import Verdict, conclusion, of_evaluation, of_training

NONE = "–"


def measured(found: Estimate) -> str:
    """A mean over data with its standard error."""
    return number(found.value, found.stderr)


def number(value: float, stderr: float = math.nan, figures: int = 4) -> str:
    """A number rounded to two figures of its standard error, or to so many figures if it has none.

    >>> number(-83.21374, 0.1372), number(1234.5678, 12.3), number(0.0312345)
    ('−83.21 ± 0.14', '1,235 ± 12', '0.03123')
    """
    if not math.isfinite(value):
        return NONE
    if math.isfinite(stderr) and stderr > 0:
        places = min(6, max(0, 1 - math.floor(math.log10(stderr))))
        return _signed(f"{value:,.{places}f}") + f" ± {stderr:,.{places}f}"
    return _signed(f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.{figures}g}")


def _signed(text: str) -> str:
    return text.replace("-", "−")


def share(part: float, whole: float) -> str:
    """A percentage: one figure after the point below ten, and never 0 % of something.

    >>> share(1, 3), share(1, 100), share(1, 100_000), share(0, 5)
    ('33%', '1.0%', 'under 0.1%', '0%')
    """
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "under 0.1%"
    return f"{percent:.1f}%" if 0 < percent < 10 else f"{percent:.0f}%"


def p_value(p: float) -> str:
    """How it is told.

    >>> p_value(0.0423), p_value(1e-9)
    ('p = 0.042', 'p < 0.001')
    """
    return "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"


def duration(seconds: float) -> str:
    """A time as one reads it off a clock.

    >>> duration(8.23), duration(192), duration(7260)
    ('8.2 s', '3 min 12 s', '2 h 1 min')
    """
    if not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: float, one: str, many: str) -> str:
    """``1 datum``, ``12 data``."""
    return f"{count:,.0f} {one if count == 1 else many}"


def verdict(run: Snapshot) -> str:
    """What the log-likelihood means, for someone who has not seen one."""
    evaluation = run.evaluation
    if evaluation is None and "evaluate" in run.stale:
        return f"There is no log-likelihood of these weights: {run.missing('evaluate')}"
    if evaluation is None:
        return f"There is no log-likelihood yet: run `curvae evaluate {run.name}`, then write the report again."
    found = evaluation.log_likelihood
    if found is None:
        return "This system gives no evidence, so no log-likelihood can be had; its pictures and its bound are below."
    words = [
        f"The mean over {plural(evaluation.count, 'datum', 'data')} of the {evaluation.split} split, in nats "
        "per datum, with its standard error. Higher is better: one nat more makes the data e ≈ 2.7 times as likely.",
        trust(evaluation),
        conclusion(evaluation, _of_training(run)),
    ]
    return " ".join(word for word in words if word)


def _of_training(run: Snapshot) -> tuple[Verdict, ...]:
    return of_training(run.metrics, f"`curvae fit --continue {run.name}`") if run.metrics else ()


SOURCES = {"laplace": "the common Laplace proposal", "own": "the system’s own posterior", "defensive": "both together"}


def source(found: Evaluation) -> str:
    """Where the headline was sampled from."""
    if len(found.chosen) > 1:
        return "the best proposal of each datum"
    return SOURCES[next(iter(found.chosen), "laplace" if found.laplace else "own")]


def chosen(found: Evaluation) -> str:
    """How often each proposal is best, in brackets."""
    shares = [f"{SOURCES[name]} for {share(part, 1)}" for name, part in found.chosen.items()]
    return f" ({', '.join(shares)})" if len(shares) > 1 else ""


def trust(evaluation: Evaluation) -> str:
    """How far the log-likelihood can be relied on, by the k-hat of the proposal behind it; "" if not known."""
    if evaluation.evidence == "exact":
        return "It is exact, not an estimate."
    khat = evaluation.khat
    if khat is None or not math.isfinite(khat.flagged):
        return ""
    part = max(khat.flagged, evaluation.flagged / max(1, evaluation.count))
    flagged = share(part, 1)
    if part <= 0.01:
        return "The importance sampling behind it can be relied on for nearly every datum."
    if part <= 0.1:
        return f"The importance sampling behind it is unreliable for {flagged} of the data, where it tends to read low."
    return (
        f"Read it with care: the importance sampling behind it is unreliable for {flagged} of the data (k-hat above "
        f"{KHAT_LIMIT:g}), and such an estimate tends to be too low."
    )


def warnings(run: Snapshot) -> list[str]:
    """Everything a reader should know before believing the numbers; empty if there is nothing."""
    found = list(run.evaluation.warnings) if run.evaluation else []
    found += map(str, of_evaluation(run.evaluation) if run.evaluation else ())
    found += map(str, _of_training(run))
    found += [f"What `curvae {command}` found is {run.missing(command)}" for command in run.stale]
    found += [f"An earlier curvae wrote what `curvae {c}` found, without saying of which weights." for c in run.unsure]
    state = run.status.get("state")
    if state not in (None, "finished"):
        reason = f" ({run.status['reason']})" if run.status.get("reason") else ""
        found.append(f"Training is not finished: its state is “{state}”{reason}. The model may still get better.")
    skipped = float(np.nansum(run.metrics.get("skipped", 0)))
    if skipped > 0:
        steps = plural(skipped, "training step was", "training steps were")
        found.append(f"{steps} skipped because the loss or a gradient was not finite.")
    not_ok = run.metrics.get("not_ok", np.array([]))
    last = not_ok[np.isfinite(not_ok)][-1:]
    if run.evaluation is None and last.size and last[0] > 0:
        found.append(
            f"In the last epoch of training the mode search of {share(last[0], 1)} of the data did not end "
            "well (it ran out of steps, needed jitter or met a value that is not finite)."
        )
    return found
