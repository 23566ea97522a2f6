"""The first rows of the results: models in closed form, which the run has to beat."""

from curvae.evaluation.comparison.baseline_results import BaselineResult
from curvae.evaluation.results import Evaluation
from curvae.report import words
from curvae.report.read import Snapshot

MODELS = {
    "ppca": "Probabilistic PCA: one noise for all elements.",
    "factor_analysis": "Factor analysis: a noise of its own for each element.",
    "independent": "Every column by itself, whatever the others are.",
}
"""What they are."""


def rows(found: Evaluation) -> list[tuple[str, str, str]]:
    """One each: name, value with its error, what it is, or why it is left out."""
    return [_row(each) for each in found.baselines or ()]


def lacking(run: Snapshot) -> str:
    """What to do where an evaluation has none; "" where it has."""
    if run.evaluation is None or run.evaluation.baselines is not None:
        return ""
    return f" It has no baselines: an older curvae wrote it; run `curvae evaluate {run.name}` again."


def _row(found: BaselineResult) -> tuple[str, str, str]:
    if found.log_likelihood is None:
        return (found.label, words.NONE, f"{found.note[:1].upper()}{found.note[1:]}.")
    text = f"{MODELS[found.name]} In closed form, {found.note or 'fitted to the training rows'}; exact."
    if found.difference is not None:
        text += f" This run less it, paired by datum: {words.measured(found.difference)} nats"
        if found.trusted not in (None, found.difference):
            text += f", {words.measured(found.trusted)} nats over the data not flagged"
        text += "."
    return (found.label, f"{words.measured(found.log_likelihood)} nats", text)
