"""The parts of the page on the posterior: what it costs, whether it is right, and what its latents carry."""

import numpy as np

from curvae.evaluation.calibration.figure import figure as calibration_figure
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.formatting import measured, number, p_value
from curvae.evaluation.gaps.results import MEMBERS, Gaps
from curvae.report import figures, page, style
from curvae.report.page import Cell, Section
from curvae.report.read import Snapshot
from curvae.report.sections import left_out

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
    return [_row(name, measured(value), text) for name, value, text in rows if value is not None]


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
        f"it does not ({p_value(found.p_value)}): an exact one looks as bad less than once in a hundred times."
        if found.p_value < PASSES
        else f"nothing is seen against it ({p_value(found.p_value)})."
    )
    if level is not None:
        share = found.coverage[level]
        text += f" Intervals of {level:.0%} hold {number(100 * share.value, 100 * share.stderr)} % of the latents."
    caption = (
        "Left: the ranks’ distribution less the even one; curves within the gray band are those of exact posteriors. "
        "A rise on the left with a fall on the right means posteriors too narrow, the reverse too wide, a curve to one "
        "side a bias; log p(x, z) also sees correlations that are ignored. Right: how often intervals hold the truth."
    )
    alt = "Distribution of the ranks of true latents among posterior draws, and coverage of intervals."
    shown = page.figure(style.svg(calibration_figure(found, 7.5)), alt, caption, "wide")
    return Section("calibration", title, page.paragraph(text) + shown)


def _row(name: str, value: str, text: str) -> list[Cell]:
    return [Cell(name), Cell(value, number=True), Cell(text)]
