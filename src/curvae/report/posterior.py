"""The parts of the page on the posterior: what it costs, whether it is right, and what its latents carry."""

import numpy as np

from curvae.evaluation.calibration.figure import figure as calibration_figure
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.gaps.results import MEMBERS, Gaps
from curvae.evaluation.information.results import Information
from curvae.report import figures, page, style, words
from curvae.report.page import Cell, Section
from curvae.report.read import Snapshot
from curvae.report.sections import left_out, not_evaluated

PASSES = 0.01
"""P-value below which the posterior is said to be wrong."""


def gaps(run: Snapshot) -> Section:
    """The inference gap in its parts, and other families on the same decoder."""
    title = "What a better posterior would buy"
    if run.gaps is None:
        return Section("gaps", title, absent=left_out(run, run.missing("gaps")))
    found = run.gaps
    names = [name for name in MEMBERS if name in found.members]
    chosen = [found.members[name].gap for name in names]
    values, errors = (np.array([getattr(gap, name) for gap in chosen]) for name in ("value", "stderr"))
    parts = (found.approximation.value, found.amortization.value)
    shown = style.svg(figures.below([MEMBERS[name] for name in names], values, errors, parts))
    caption = (
        f"How far the ELBO of each posterior lies below log p(x) for the same decoder and {found.count:,} data of the "
        f"{found.split} split, with one standard error. The best posteriors are sought for each datum by "
        f"{found.steps} steps of gradient ascent."
    )
    alt = "Bars of the inference gap of the system's own posterior, in two parts, and of other posterior families."
    table = page.table(("Quantity", "Nats ± error", "What it is"), _gap_rows(found), "described")
    notes = page.warnings(found.warnings) if found.warnings else ""
    return Section("gaps", title, table + page.figure(shown, alt, caption, "wide") + notes)


def _gap_rows(found: Gaps) -> list[list[Cell]]:
    rows: list[tuple[str, Estimate | None, str]] = [
        ("Inference gap", found.inference, "log p(x) − ELBO of the system’s own posterior."),
        ("Approximation gap", found.approximation, "What its family misses, even at its best: asks for a richer one."),
        ("Amortization gap", found.amortization, "What its inference misses within the family: asks for refinement."),
        ("… of training data", found.amortization_train, "The same for data that the encoder was trained on."),
        ("Generalization gap", found.generalization, "The difference: above zero, the encoder has learned by heart."),
    ]
    return [_row(name, words.measured(value), text) for name, value, text in rows if value is not None]


def calibration(run: Snapshot) -> Section:
    """Ranks and coverage on data drawn from the model."""
    title, found = "Is the posterior right?", run.calibration
    if found is None:
        return Section("calibration", title, absent=left_out(run, run.missing("calibrate")))
    count, level = len(found.ranks), max(found.coverage, default=None)
    text = (
        f"{count:,} data were drawn from the model itself, with the latents that made them, and each was given its "
        f"posterior. If that is right, the true value ranks evenly among {found.draws} draws from it: "
    )
    text += (
        f"it does not ({words.p_value(found.p_value)}): an exact one looks as bad less than once in a hundred times."
        if found.p_value < PASSES
        else f"nothing is seen against it ({words.p_value(found.p_value)})."
    )
    if level is not None:
        share = found.coverage[level]
        text += (
            f" Intervals of {level:.0%} hold {words.number(100 * share.value, 100 * share.stderr)} % of the latents."
        )
    caption = (
        "Left: the ranks’ distribution less the even one; curves within the gray band are those of exact posteriors. "
        "A rise on the left with a fall on the right means posteriors too narrow, the reverse too wide, a curve to one "
        "side a bias; log p(x, z) also sees correlations that are ignored. Right: how often intervals hold the truth."
    )
    alt = "Distribution of the ranks of true latents among posterior draws, and coverage of intervals."
    shown = page.figure(style.svg(calibration_figure(found, 7.5)), alt, caption, "wide")
    return Section("calibration", title, page.paragraph(text) + shown)


def information(run: Snapshot) -> Section:
    """What latents say about data, and the aggregate posterior against the prior."""
    title = "What the latents carry"
    if run.evaluation is None:
        return Section("information", title, absent=not_evaluated(run))
    found = run.evaluation.information
    if found is None:
        why = "this evaluation says nothing of it; it takes continuous latents and 20 data or more."
        return Section("information", title, absent=left_out(run, why))
    table = page.table(("Quantity", "Value ± error", "What it is"), _information_rows(found), "described")
    note = (
        f"From {found.count:,} data, which can show log N = {found.ceiling:.2f} nats of information at most; where the "
        "two ends are far apart, more cannot be said from so many. Standard errors are over the choice of data."
    )
    return Section("information", title, table + page.paragraph(note))


def _information_rows(found: Information) -> list[list[Cell]]:
    high = words.measured(found.mutual_upper)
    mutual = f"at most {high}" if found.mutual_lower is None else f"{words.measured(found.mutual_lower)} to {high}"
    told = words.number(100 * found.accuracy, 100 * found.accuracy_stderr)
    rows = [_row("Information I(x; z)", f"{mutual} nats", "How much the latents say about a datum.")]
    if found.correlation_lower is not None and found.correlation_upper is not None:
        least = words.number(max(0.0, found.correlation_lower.value), figures=2)
        most = words.measured(found.correlation_upper)
        text = "How far the latents of all data together are from independent of one another."
        rows.append(_row("Total correlation", f"{least} to {most} nats", text))
    text = (
        f"Held-out latents of data told from prior draws; 50 % is the best ({words.p_value(found.accuracy_p_value)})."
    )
    rows.append(_row("Classifier", f"{told} %", text))
    text = f"The same by a kernel; unbiased, zero on average if they are alike ({words.p_value(found.mmd_p_value)})."
    rows.append(_row("MMD²", words.number(found.mmd, figures=2), text))
    return rows


def _row(name: str, value: str, text: str) -> list[Cell]:
    return [Cell(name), Cell(value, number=True), Cell(text)]
