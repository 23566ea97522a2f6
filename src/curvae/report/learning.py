"""The part of the page on training: the curves of metrics.csv, and what one should see in them."""

from collections.abc import Mapping

import numpy as np

from curvae.evaluation.information.posterior_summary import NOT_OK
from curvae.report import figures, page, style
from curvae.report.page import PageSection
from curvae.report.snapshot import Snapshot

_HEALTH = {
    "kl": (
        "KL to the prior (nats)",
        False,
        "Divergence from the prior against the epoch.",
        "How much the posterior says about a datum; a curve that falls to zero means that it says nothing.",
    ),
    "grad_norm": (
        "gradient norm",
        True,
        "Gradient norm against the epoch.",
        "The norm of the gradient of training, on a logarithmic scale; peaks are unstable steps.",
    ),
    "not_ok": (
        "data not ok (%)",
        False,
        "Share of training data whose inference status was not ok, against the epoch.",
        f"The share of the training data whose mode search {NOT_OK}. The posterior is then a little off the mode, "
        "which costs tightness and nothing else.",
    ),
}
"""Column -> label of the axis, logarithmic or not, text for those who do not see it, caption."""


def learning_section(run: Snapshot) -> PageSection:
    """Bounds against epochs and against time; the divergence and the gradient below."""
    metrics = run.metrics
    names = {"train_bound": "training", "validation_bound": "validation"}
    lines = {
        text: metrics[name]
        for name, text in names.items()
        if "epoch" in metrics and np.isfinite(metrics.get(name, np.nan)).any()
    }
    if not lines:
        why = "metrics.csv holds no bounds yet." if metrics else "this run has no metrics.csv."
        return PageSection("learning", "Learning curves", absent=why)
    epochs, ylabel = metrics["epoch"], "bound (nats per datum)"
    cut = figures.lowest_shown(list(lines.values())) is not None
    stages = metrics.get("stage")
    shown = [
        page.figure_tag(
            style.svg(figures.curves(epochs, lines, "epoch", ylabel, stages, clip=True)),
            "Training and validation bound against the epoch.",
            _learning_caption(lines, cut, stages, _curve(run)),
        )
    ]
    if np.isfinite(metrics.get("seconds", np.nan)).any():
        figure = figures.curves(metrics["seconds"], lines, "seconds of training", ylabel, clip=True)
        caption = "The same bounds against time: what a nat costs. A stage with a mode search takes longer per epoch."
        shown.append(page.figure_tag(style.svg(figure), "Training and validation bound against seconds.", caption))
    return PageSection("learning", "Learning curves", page.grid([*shown, *_health(run, epochs, stages)]))


def _curve(run: Snapshot) -> str:
    """What a bound is: an evaluated run says it, of others it is nearly always a lower bound."""
    if run.evaluation is not None and run.evaluation.evidence == "exact":
        return "log-likelihood"
    return "lower bound on the log-likelihood"


def _learning_caption(lines: Mapping[str, np.ndarray], cut: bool, stages: np.ndarray | None, curve: str) -> str:
    text = f"The {curve} after each epoch; higher is better."
    if len(lines) == 2:
        text += " A validation line that falls behind the training line means overfitting."
    if stages is not None and len(np.unique(stages)) > 1:
        text += (
            " Stages of training are named on top, every second one shaded. A stage that warms up may be judged by the "
            "bound of the last one: its validation line then lies above its training line."
        )
    return text + (" The first epochs lie below the frame." if cut else "")


def _health(run: Snapshot, epochs: np.ndarray, stages: np.ndarray | None) -> list[str]:
    """What else training says of itself, in the columns that have values."""
    metrics = run.metrics
    shown = []
    for name, (ylabel, log, alt, caption) in _HEALTH.items():
        if np.isfinite(metrics.get(name, np.nan)).any():
            values = metrics[name] * (100 if name == "not_ok" else 1)
            figure = figures.curves(epochs, {ylabel: values}, "epoch", ylabel, stages, log=log)
            shown.append(page.figure_tag(style.svg(figure), alt, caption))
    return shown
