"""The parts of the page on what was run and what came out: tables, and the figures of each example and latent."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curvae.evaluation import formatting
from curvae.evaluation.calibration import calibration
from curvae.evaluation.gaps import results as gaps
from curvae.evaluation.information import information
from curvae.evaluation.information.posterior_summary import ACTIVE
from curvae.evaluation.likelihood import likelihood_summary as likelihood
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.metric import Picture
from curvae.evaluation.metric import Section as Part
from curvae.evaluation.ood import unknown_results
from curvae.evaluation.samples import quality
from curvae.report import figures, page, style, verdict_sentences
from curvae.report.page import Cell, PageSection
from curvae.report.snapshot import Snapshot

DESCRIBED = "What it is"
"""A column of text, below the others where the screen is narrow."""


def why_not_evaluated(run: Snapshot) -> str:
    """Why there are no numbers of an evaluation."""
    return ("" if "evaluate" in run.stale else "this run has not been evaluated; ") + run.missing("evaluate")


def why_left_out(run: Snapshot, why: str) -> str:
    """Why a part on latents is left out: there are none, or something else."""
    return "this system has no latents." if run.pictures and "latent_mean" not in run.pictures else why


def findings_section(run: Snapshot) -> PageSection:
    return PageSection("warnings", "Warnings", page.warning_list(verdict_sentences.all_warnings(run)))


def run_section(run: Snapshot) -> PageSection:
    """Facts at a glance; everything else folded away."""
    environment, metrics = run.environment, run.metrics
    seconds = metrics.get("seconds", np.array([]))
    known = {
        "System": run.system,
        "Data": run.data,
        "Latent dimensions": str(run.arguments.get("latent", "")),
        "Epochs": str(len(metrics.get("epoch", ""))),
        "Training time": formatting.format_duration(float(np.nanmax(seconds))) if np.isfinite(seconds).any() else "",
        "Device": str(environment.get("device", "")),
        "Seed": str(environment.get("seed", "")),
        "Starts": f"{len(run.restarts)}, the best is kept" if run.restarts else "",
        "curvae": str(run.config.get("curvae", environment.get("curvae", ""))),
        "State": str(run.status.get("state", "")),
    }
    return PageSection(
        "run",
        "What was run",
        page.facts({name: text for name, text in known.items() if text})
        + page.settings("All settings (config.yaml)", run.config)
        + page.settings("Versions and machine (environment.json)", environment),
    )


def results_section(run: Snapshot) -> PageSection:
    """The table of results, with errors."""
    found = run.evaluation
    if found is None:
        return PageSection("results", "Results", absent=why_not_evaluated(run))
    rows = tuple(found.described(run.per_datum))
    if not rows:
        return PageSection("results", "Results", absent="this system has neither a log-likelihood nor latents.")
    draws = formatting.format_count(found.samples, "draw", "draws")
    note = (
        f"Computed on {formatting.format_count(found.count, 'datum', 'data')} of the {found.split} split"
        f"{f', with {draws} per datum and proposal' if found.headline else ''}, seed "
        f"{found.seed}. What follows ± is one standard error of the mean over the data."
    )
    if found.baselines is None:
        note += f" It has no baselines: an older curvae wrote it; run `curvae evaluate {run.name}` again."
    table = metric_section(Part("results", "Results", ("Quantity", "Value ± error", DESCRIBED), rows, note))
    if (sampling := likelihood.proposals_section(found)) is None:
        return table
    return replace(table, html=f"{table.html}<h3>{sampling.title}</h3>{metric_section(sampling).html}")


def metric_section(found: Part, picture: Picture | None = None, warnings: Sequence[str] = ()) -> PageSection:
    """A table with a note below it, a figure and what to be careful about."""
    if found.absent:
        return PageSection(found.slug, found.title, absent=found.absent)
    described = found.header[-1:] == (DESCRIBED,)
    last = len(found.header) - described
    rows = [[Cell(text, number=0 < i < last) for i, text in enumerate(row)] for row in found.rows]
    html = page.table(found.header, rows, "described" if described else "") if rows else ""
    html += page.paragraph(found.note) if found.note else ""
    html += page.figure_tag(style.svg(picture.draw()), picture.alt, picture.caption, "wide") if picture else ""
    return PageSection(found.slug, found.title, html + (page.warning_list(warnings) if warnings else ""))


def per_example_section(run: Snapshot) -> PageSection:
    """How the log-likelihood and its reliability are spread over the data."""
    section = PageSection("per-datum", "Datum by datum", absent=why_not_evaluated(run))
    if run.evaluation is None:
        return section
    shown = [*_log_likelihoods(run), *_khats(run)]
    if not shown:
        return PageSection(section.slug, section.title, absent="evaluation.npz holds no values per datum.")
    return PageSection(section.slug, section.title, page.grid(shown))


def _present(run: Snapshot, names: dict[str, str]) -> dict[str, np.ndarray]:
    found = {text: run.per_datum[name] for name, text in names.items() if name in run.per_datum}
    return {text: values for text, values in found.items() if np.isfinite(values).any()}


def _log_likelihoods(run: Snapshot) -> list[str]:
    values = _present(run, {"log_likelihood": "log p(x)", "elbo": "ELBO"})
    if not values:
        return []
    low, high = figures.histogram_range([column[np.isfinite(column)] for column in values.values()])
    outside = max(int((~((column >= low) & (column <= high))).sum()) for column in values.values())
    spread = f"{' and the '.join(values)} {'is' if len(values) == 1 else 'are'} spread"
    caption = (
        f"How the {spread} over the data; dashed lines are the means. The left tail holds the data that the model "
        "finds strange."
    )
    if outside:
        caption += f" {formatting.format_count(outside, 'datum lies', 'data lie')} outside the frame."
    figure = style.svg(figures.histograms(values, "nats"))
    return [page.figure_tag(figure, f"Histogram of the {' and of the '.join(values)} of each datum.", caption)]


def _khats(run: Snapshot) -> list[str]:
    names = {"khat_own": "own posterior", "khat_laplace": "Laplace proposal", "khat_best": "best"}
    values = _present(run, names)
    if not values:
        return []
    caption = (
        f"Pareto k-hat of the importance weights: left of {KHAT_BAD:g} the estimate of log p(x) and "
        "its error can be trusted, right of it the estimate tends to be too low."
    )
    figure = style.svg(figures.histograms(values, "k-hat", limit=KHAT_BAD))
    return [page.figure_tag(figure, "Histogram of k-hat for each datum, with the limit marked.", caption)]


def divergence_section(run: Snapshot) -> PageSection:
    """Bars of the divergence and of the activity of each latent dimension."""
    section = PageSection("kl", "Use of the latent dimensions", absent=why_not_evaluated(run))
    if run.evaluation is None:
        return section
    kl, activity = (
        np.nan_to_num(np.array(values or [], dtype=float))
        for values in (run.evaluation.kl_per_dimension, run.evaluation.activity)
    )
    if not kl.size:
        return PageSection(
            section.slug, section.title, absent=why_left_out(run, "this evaluation gives no KL per dimension.")
        )
    order = np.argsort(-kl)
    active = activity > ACTIVE if activity.shape == kl.shape else kl > ACTIVE
    shown = [_kl_bars(kl, active, order)]
    if activity.shape == kl.shape:
        shown.append(_activity_bars(activity, active, order))
    return PageSection(section.slug, section.title, page.grid(shown))


def _kl_bars(kl: np.ndarray, active: np.ndarray, order: np.ndarray) -> str:
    caption = (
        "The divergence of each latent’s posterior from its prior, averaged over the data, largest first: "
        f"{active.sum()} of {len(kl)} latents are active. Gray ones are not; many of them mean that the "
        "posterior has collapsed."
    )
    figure = style.svg(figures.bars(kl, active, order, "KL to the prior (nats)"))
    return page.figure_tag(figure, "Bars of the KL divergence of each latent dimension, largest first.", caption)


def _activity_bars(activity: np.ndarray, active: np.ndarray, order: np.ndarray) -> str:
    caption = (
        "The variance of each latent’s posterior mean over the data, in the same order, on a logarithmic "
        f"scale. Below {ACTIVE:g} (dashed) a latent hardly depends on the data and counts as inactive."
    )
    figure = figures.bars(activity, active, order, "variance of the posterior mean", threshold=ACTIVE)
    return page.figure_tag(style.svg(figure), "Bars of the variance of each latent’s posterior mean.", caption)


def quality_section(run: Snapshot) -> PageSection:
    """Samples and reconstructions against held-out data."""
    if run.evaluation is None:
        return PageSection("quality", quality.TITLE, absent=why_not_evaluated(run))
    found = run.evaluation.quality
    return metric_section(quality.absent(run.name) if found is None else found.section(run.evaluation.split))


def information_section(run: Snapshot) -> PageSection:
    """What latents say about data, and the aggregate posterior against the prior."""
    if run.evaluation is None:
        return PageSection("information", information.TITLE, absent=why_not_evaluated(run))
    found = run.evaluation.information
    if found is None:
        return PageSection("information", information.TITLE, absent=why_left_out(run, information.ABSENT))
    return metric_section(found.section())


def other_metric_sections(run: Snapshot) -> list[PageSection]:
    """What metrics found that are not of every report."""
    found = run.evaluation.metrics.values() if run.evaluation else ()
    return [metric_section(each.section) for each in found if each.section is not None]


def gaps_section(run: Snapshot) -> PageSection:
    """The inference gap in its parts, and other families on the same decoder."""
    if run.gaps is None:
        return PageSection("gaps", gaps.TITLE, absent=why_left_out(run, run.missing("gaps")))
    return metric_section(run.gaps.section(), run.gaps.picture(), run.gaps.warnings)


def calibration_section(run: Snapshot) -> PageSection:
    """Ranks and coverage on data drawn from the model."""
    if run.calibration is None:
        return PageSection("calibration", calibration.TITLE, absent=why_left_out(run, run.missing("calibrate")))
    return metric_section(run.calibration.section(), run.calibration.picture())


def unknown_section(run: Snapshot) -> PageSection:
    """Rows that may be unknown, by every score."""
    if run.unknown is None:
        return PageSection("unknown", unknown_results.TITLE, absent=run.missing("ood"))
    return metric_section(run.unknown.section(), run.unknown.picture())
