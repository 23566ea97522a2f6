"""Verdicts on what came out, and the one sentence that says whether a model is worth using."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from curvae.verdicts.verdict import Verdict

if TYPE_CHECKING:
    from curvae.evaluation import Evaluation
    from curvae.evaluation.likelihood.baselines import BaselineResult

SIGMAS = 2.0
"""Errors of a paired difference by which a baseline must be beaten."""
FLAGGED = 0.1
"""Share of the data whose estimates may be flagged."""
SILENT = 0.05
"""Nats that latents must say of an example."""


def evaluation_verdicts(result: "Evaluation") -> tuple[Verdict, ...]:
    """What an evaluation says of the model and of itself."""
    found = [*baseline_verdicts(result.baselines or ()), _collapsed(result), _estimates(result)]
    return tuple(each for each in found if each is not None)


def baseline_verdicts(results: Sequence["BaselineResult"]) -> tuple[Verdict, ...]:
    """The baseline that the model does not beat by two errors of the paired difference, the best of them."""
    best = _best(results)
    if best is None or best.difference is None:
        return ()
    ahead = best.difference
    if ahead.value > SIGMAS * ahead.stderr:
        return ()
    how = "behind" if ahead.value < -SIGMAS * ahead.stderr else "not ahead of"
    return (Verdict("baseline", f"Not better than {best.label}: {how} it in log p(x), by {ahead} nats, paired."),)


def bound_verdicts(bound: float, baselines: Mapping[str, float]) -> tuple[Verdict, ...]:
    """The baseline that the bound on the validation data does not beat, before anything is evaluated.

    Args:
        bound: mean of the best validation bound, nats.
        baselines: mean validation log p(x) by name.

    Example:
        >>> [str(each) for each in bound_verdicts(-16.2, {"PPCA, 2 latents": -16.1})]
        ['Its validation bound, -16.20 nats, is not above PPCA, 2 latents (-16.10): evaluate compares log p(x) itself.']
    """
    name = max(baselines, key=lambda each: baselines[each], default=None)
    if name is None or bound > baselines[name]:
        return ()
    line = f"Its validation bound, {bound:.2f} nats, is not above {name} ({baselines[name]:.2f}): "
    return (Verdict("baseline", line + "evaluate compares log p(x) itself."),)


def conclusion(result: "Evaluation", others: Sequence[Verdict] = ()) -> str:
    """Whether the model is worth using, in one sentence.

    Args:
        result: its evaluation.
        others: verdicts on its training.
    """
    kinds = {each.kind for each in (*evaluation_verdicts(result), *others)}
    best = _best(result.baselines or ())
    if best is None or best.difference is None:
        return "Whether it is worth using cannot be said: there is nothing in closed form to compare it with."
    if "baseline" in kinds:
        return f"Not worth using as it is: {best.label} explains these data as well, and is exact."
    but = [said for kind, said in _BUT.items() if kind in kinds]
    ahead = f"{best.difference:+.2f} nats in log p(x) over {best.label}, paired"
    return f"Worth using: {ahead}" + (f"; but {' and '.join(but)}." if but else ".")


_BUT = {
    "rising": "training longer would still gain",
    "estimates": "part of the estimates of log p(x) cannot be trusted",
    "collapsed": "some of its latents say nothing",
    "overfits": "it overfits, and was stopped where it was best",
}


def _best(results: Sequence["BaselineResult"]) -> "BaselineResult | None":
    """The likeliest baseline."""
    known = [each for each in results if each.log_likelihood is not None]
    return max(known, key=lambda each: each.log_likelihood.value if each.log_likelihood else 0.0, default=None)


def _collapsed(result: "Evaluation") -> Verdict | None:
    if result.activity is None or result.active_units is None:
        return None
    size, active = len(result.activity), result.active_units
    if active == 0 or (result.kl is not None and result.kl.value < SILENT):
        return Verdict("collapsed", "Collapsed: the latents say nothing of the data; the decoder ignores them.")
    if active < size:
        return Verdict("collapsed", f"{size - active} of {size} latents say nothing; --latent {active} would do.")
    return None


def _estimates(result: "Evaluation") -> Verdict | None:
    if not result.count or result.flagged <= FLAGGED * result.count:
        return None
    share = result.flagged / result.count
    line = f"Estimates not to be trusted for {share:.0%} of the data (k-hat above 0.7): log p(x) errs low there; "
    return Verdict("estimates", line + "see --samples, --stderr and --ais.")
