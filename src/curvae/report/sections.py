"""The parts of the page on what was run and what came out: tables, and the figures of each datum and latent."""

import math

import numpy as np

from curvae.evaluation import formatting
from curvae.evaluation.likelihood.proposal_selection import KHAT_GOOD
from curvae.evaluation.results import Estimate, Evaluation, ProposalResult
from curvae.report import figures, page, style, words
from curvae.report.figures import KHAT_LIMIT
from curvae.report.page import Cell, Section
from curvae.report.read import Snapshot

ACTIVE = 0.01
"""A latent whose posterior mean varies less over the data is not active (Burda, Grosse and Salakhutdinov 2016)."""


def not_evaluated(run: Snapshot) -> str:
    """Why there are no numbers of an evaluation."""
    return ("" if "evaluate" in run.stale else "this run has not been evaluated; ") + run.missing("evaluate")


def left_out(run: Snapshot, why: str) -> str:
    """Why a part on latents is left out: there are none, or something else."""
    return "this system has no latents." if run.pictures and "latent_mean" not in run.pictures else why


def findings(run: Snapshot) -> Section:
    return Section("warnings", "Warnings", page.warnings(words.warnings(run)))


def what_was_run(run: Snapshot) -> Section:
    """Facts at a glance; everything else folded away."""
    environment, metrics = run.environment, run.metrics
    seconds = metrics.get("seconds", np.array([]))
    known = {
        "System": run.system,
        "Data": run.data,
        "Latent dimensions": str(run.arguments.get("latent", "")),
        "Epochs": str(len(metrics.get("epoch", ""))),
        "Training time": formatting.duration(float(np.nanmax(seconds))) if np.isfinite(seconds).any() else "",
        "Device": str(environment.get("device", "")),
        "Seed": str(environment.get("seed", "")),
        "Starts": f"{len(run.restarts)}, the best is kept" if run.restarts else "",
        "curvae": str(run.config.get("curvae", environment.get("curvae", ""))),
        "State": str(run.status.get("state", "")),
    }
    return Section(
        "run",
        "What was run",
        page.facts({name: text for name, text in known.items() if text})
        + page.settings("All settings (config.yaml)", run.config)
        + page.settings("Versions and machine (environment.json)", environment),
    )


def results(run: Snapshot) -> Section:
    """The table of results, with errors."""
    found = run.evaluation
    if found is None:
        return Section("results", "Results", absent=not_evaluated(run))
    rows = [
        *(each.described() for each in found.baselines or ()),
        *_likelihood(found),
        *_bounds(run, found),
        *_others(found),
    ]
    if not rows:
        return Section("results", "Results", absent="this system has neither a log-likelihood nor latents.")
    cells = [[Cell(name), Cell(value, number=True), Cell(meaning)] for name, value, meaning in rows]
    drawn = (
        f", with {formatting.plural(found.samples, 'draw', 'draws')} per datum and proposal" if found.headline else ""
    )
    note = (
        f"Computed on {formatting.plural(found.count, 'datum', 'data')} of the {found.split} split{drawn}, seed "
        f"{found.seed}. What follows ± is one standard error of the mean over the data."
    )
    note += _lacking(run)
    table = page.table(("Quantity", "Value ± error", "What it is"), cells, "described")
    return Section("results", "Results", table + page.paragraph(note) + _sampling(found))


def _lacking(run: Snapshot) -> str:
    """What to do where an evaluation has none; "" where it has."""
    if run.evaluation is None or run.evaluation.baselines is not None:
        return ""
    return f" It has no baselines: an older curvae wrote it; run `curvae evaluate {run.name}` again."


Row = tuple[str, str, str]


def _likelihood(found: Evaluation) -> list[Row]:
    if found.log_likelihood is None:
        return []
    source = "exact" if found.headline is None else f"by importance sampling from {words.source(found)}"
    text = f"The log-likelihood of a datum, {source}. Higher is better."
    rows = [("log p(x)", f"{formatting.measured(found.log_likelihood)} nats", text)]
    if found.best is not None and found.flagged:
        value = formatting.NONE if found.trusted is None else f"{formatting.measured(found.trusted)} nats"
        text = (
            f"The same without the {formatting.plural(found.flagged, 'datum that is', 'data that are')} flagged "
            f"({formatting.share(found.flagged, found.count)}): k-hat above {KHAT_LIMIT:g}, or not finite."
        )
        rows.append(("log p(x), not flagged", value, text))
    if found.smoothed is not None:
        text = "The same from Pareto-smoothed weights, which vary less and are not quite unbiased."
        rows.append(("log p(x), smoothed", f"{formatting.measured(found.smoothed)} nats", text))
    return rows + ([] if found.ais is None else [found.ais.described()])


def _sampling(found: Evaluation) -> str:
    """The proposals side by side: what each estimates, and how far it can be trusted."""
    proposals = {
        "common Laplace": found.laplace,
        "system’s own posterior": found.own,
        "both, half each": found.defensive,
        "best of each datum": found.best,
    }
    rows = [_proposal(name, part) for name, part in proposals.items() if part is not None]
    if not rows:
        return ""
    header = (
        "Proposal",
        "log p(x), nats",
        "Error of the draws",
        "Draws that count",
        "k-hat",
        f"k-hat > {KHAT_LIMIT:g}",
    )
    note = (
        "The common proposal is the Laplace posterior at the mode, slightly widened, and the same for every "
        f"system. The best one is that where its k-hat is at most {KHAT_GOOD:g}, else the one of the smallest k-hat"
        f"{words.chosen(found)}. “Error of the draws” (nats) is the part of the error that more draws would lower. "
        "“Draws that count” is the effective sample size and k-hat the Pareto shape of the weights, both as medians "
        f"with the worst datum in brackets; above {KHAT_LIMIT:g} an estimate is not to be trusted."
    )
    return "<h3>Importance sampling</h3>" + page.table(header, rows) + page.paragraph(note)


def _proposal(name: str, part: ProposalResult) -> list[Cell]:
    ess, khat = part.ess, part.khat
    return [
        Cell(name),
        Cell(formatting.measured(part.log_likelihood), number=True),
        Cell(formatting.number(part.log_likelihood.monte_carlo, figures=2), number=True),
        Cell(f"{formatting.number(ess.median, figures=3)} ({formatting.number(ess.worst, figures=3)})", number=True),
        Cell(f"{formatting.number(khat.median, figures=2)} ({formatting.number(khat.worst, figures=2)})", number=True),
        Cell(formatting.share(khat.flagged, 1) if math.isfinite(khat.flagged) else formatting.NONE, number=True),
    ]


def _bounds(run: Snapshot, found: Evaluation) -> list[Row]:
    rows = []
    if found.elbo is not None:
        text = "The evidence lower bound with the system’s own posterior."
        rows.append(("ELBO", f"{formatting.measured(found.elbo)} nats", text))
    gap = inference_gap(run)
    if gap is not None:
        text = "log p(x) − ELBO, paired by datum: what the approximate posterior costs. Zero would be exact."
        rows.append(("Inference gap", f"{formatting.measured(gap)} nats", text))
    if found.kl is not None:
        text = "Divergence of the posterior from the prior: what the latents say about a datum."
        rows.append(("KL to the prior", f"{formatting.measured(found.kl)} nats", text))
    return rows


def inference_gap(run: Snapshot) -> Estimate | None:
    """The mean of ``log p(x) - ELBO``, nats; its error is that of the paired differences."""
    total, elbo = run.per_datum.get("log_likelihood"), run.per_datum.get("elbo")
    if total is None or elbo is None:
        return None
    kept = np.isfinite(total) & np.isfinite(elbo) & run.per_datum.get("finite", True)
    return Estimate.of(total[kept] - elbo[kept]) if kept.any() else None


def _others(found: Evaluation) -> list[Row]:
    rows = []
    if found.bits_per_dim is not None:
        of = f" Unit: {found.unit}." if found.unit else ""
        text = f"−log₂ p(x) per dimension of the data; lower is better.{of}"
        rows.append(("Bits per dimension", f"{formatting.measured(found.bits_per_dim)} bits/dim", text))
    if found.active_units is not None:
        of = f" of {len(found.activity)}" if found.activity else ""
        text = f"Latents whose posterior mean varies over the data with a variance above {ACTIVE:g}."
        rows.append(("Active units", f"{found.active_units}{of}", text))
    if found.reconstruction_error is not None:
        text = "Root mean square error of the decoded posterior mean, in the data’s own units."
        rows.append(("Reconstruction error", formatting.number(found.reconstruction_error), text))
    return rows


def per_datum(run: Snapshot) -> Section:
    """How the log-likelihood and its reliability are spread over the data."""
    section = Section("per-datum", "Datum by datum", absent=not_evaluated(run))
    if run.evaluation is None:
        return section
    shown = [*_log_likelihoods(run), *_khats(run)]
    if not shown:
        return Section(section.slug, section.title, absent="evaluation.npz holds no values per datum.")
    return Section(section.slug, section.title, page.grid(shown))


def _present(run: Snapshot, names: dict[str, str]) -> dict[str, np.ndarray]:
    found = {text: run.per_datum[name] for name, text in names.items() if name in run.per_datum}
    return {text: values for text, values in found.items() if np.isfinite(values).any()}


def _log_likelihoods(run: Snapshot) -> list[str]:
    values = _present(run, {"log_likelihood": "log p(x)", "elbo": "ELBO"})
    if not values:
        return []
    low, high = figures.frame([column[np.isfinite(column)] for column in values.values()])
    outside = max(int((~((column >= low) & (column <= high))).sum()) for column in values.values())
    spread = f"{' and the '.join(values)} {'is' if len(values) == 1 else 'are'} spread"
    caption = (
        f"How the {spread} over the data; dashed lines are the means. The left tail holds the data that the model "
        "finds strange."
    )
    if outside:
        caption += f" {formatting.plural(outside, 'datum lies', 'data lie')} outside the frame."
    figure = style.svg(figures.histograms(values, "nats"))
    return [page.figure(figure, f"Histogram of the {' and of the '.join(values)} of each datum.", caption)]


def _khats(run: Snapshot) -> list[str]:
    names = {"khat_own": "own posterior", "khat_laplace": "Laplace proposal", "khat_best": "best"}
    values = _present(run, names)
    if not values:
        return []
    caption = (
        f"Pareto k-hat of the importance weights: left of {KHAT_LIMIT:g} the estimate of log p(x) and "
        "its error can be trusted, right of it the estimate tends to be too low."
    )
    figure = style.svg(figures.histograms(values, "k-hat", limit=KHAT_LIMIT))
    return [page.figure(figure, "Histogram of k-hat for each datum, with the limit marked.", caption)]


def divergence(run: Snapshot) -> Section:
    """Bars of the divergence and of the activity of each latent dimension."""
    section = Section("kl", "Use of the latent dimensions", absent=not_evaluated(run))
    if run.evaluation is None:
        return section
    kl, activity = (
        np.nan_to_num(np.array(values or [], dtype=float))
        for values in (run.evaluation.kl_per_dimension, run.evaluation.activity)
    )
    if not kl.size:
        return Section(section.slug, section.title, absent=left_out(run, "this evaluation gives no KL per dimension."))
    order = np.argsort(-kl)
    active = activity > ACTIVE if activity.shape == kl.shape else kl > ACTIVE
    shown = [_kl_bars(kl, active, order)]
    if activity.shape == kl.shape:
        shown.append(_activity_bars(activity, active, order))
    return Section(section.slug, section.title, page.grid(shown))


def _kl_bars(kl: np.ndarray, active: np.ndarray, order: np.ndarray) -> str:
    caption = (
        "The divergence of each latent’s posterior from its prior, averaged over the data, largest first: "
        f"{active.sum()} of {len(kl)} latents are active. Gray ones are not; many of them mean that the "
        "posterior has collapsed."
    )
    figure = style.svg(figures.bars(kl, active, order, "KL to the prior (nats)"))
    return page.figure(figure, "Bars of the KL divergence of each latent dimension, largest first.", caption)


def _activity_bars(activity: np.ndarray, active: np.ndarray, order: np.ndarray) -> str:
    caption = (
        "The variance of each latent’s posterior mean over the data, in the same order, on a logarithmic "
        f"scale. Below {ACTIVE:g} (dashed) a latent hardly depends on the data and counts as inactive."
    )
    figure = figures.bars(activity, active, order, "variance of the posterior mean", threshold=ACTIVE)
    return page.figure(style.svg(figure), "Bars of the variance of each latent’s posterior mean.", caption)
