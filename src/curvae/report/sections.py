"""The parts of the page on training and on the numbers: which figure, and what one should see in it."""

import math
from collections.abc import Mapping

import numpy as np

from curvae.evaluation.results import Estimate, Evaluation, ProposalResult
from curvae.report import figures, page, style, words
from curvae.report.page import Cell, Section
from curvae.report.read import Run

ACTIVE = 0.01
"""A latent whose posterior mean varies less over the data is not active (Burda, Grosse and Salakhutdinov 2016)."""

NOT_EVALUATED = "this run has not been evaluated; run `curvae evaluate {path}` and write the report again."


def not_evaluated(run: Run) -> str:
    return NOT_EVALUATED.format(path=run.name)


def findings(run: Run) -> Section:
    return Section("warnings", "Warnings", page.warnings(words.warnings(run)))


def what_was_run(run: Run) -> Section:
    """Facts at a glance; everything else folded away."""
    environment, metrics = run.environment, run.metrics
    seconds = metrics.get("seconds", np.array([]))
    known = {
        "System": run.system,
        "Data": run.data,
        "Epochs": _last(metrics.get("epoch"), running_epochs(metrics)),
        "Training time": words.duration(float(np.nanmax(seconds))) if np.isfinite(seconds).any() else "",
        "Device": str(environment.get("device", "")),
        "Seed": str(environment.get("seed", "")),
        "curvae": str(run.config.get("curvae", "")),
        "State": str(run.status.get("state", "")),
    }
    return Section(
        "run",
        "What was run",
        page.facts({name: text for name, text in known.items() if text})
        + page.settings("All settings (config.yaml)", run.config)
        + page.settings("Versions and machine (environment.json)", environment),
    )


def _last(column: np.ndarray | None, running: np.ndarray) -> str:
    return f"{len(np.unique(running))}" if column is not None and len(column) else ""


def running_epochs(metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """Epochs counted on through the stages, whether or not each stage starts again at the first."""
    epoch = metrics.get("epoch", np.array([]))
    if len(epoch) < 2:
        return epoch
    back = np.diff(epoch) < 0
    return epoch + np.concatenate([[0.0], np.cumsum(np.where(back, epoch[:-1] + 1 - epoch[1:].min(), 0))])


def learning(run: Run) -> Section:
    """Bounds against epochs and against time; the divergence and the gradient below."""
    metrics = run.metrics
    names = {"train_bound": "training", "validation_bound": "validation"}
    lines = {text: metrics[name] for name, text in names.items() if np.isfinite(metrics.get(name, np.nan)).any()}
    if not lines:
        why = "metrics.csv holds no bounds yet." if metrics else "this run has no metrics.csv."
        return Section("learning", "Learning curves", absent=why)
    epochs, ylabel = running_epochs(metrics), "bound (nats per datum)"
    cut = figures.lowest_shown(list(lines.values())) is not None
    stages = metrics.get("stage")
    shown = [
        page.figure(
            style.svg(figures.curves(epochs, lines, "epoch", ylabel, stages, clip=True)),
            "Training and validation bound against the epoch.",
            _learning_caption(lines, cut, stages),
        )
    ]
    if np.isfinite(metrics.get("seconds", np.nan)).any():
        figure = figures.curves(metrics["seconds"], lines, "seconds of training", ylabel, clip=True)
        caption = "The same bounds against time: what a nat costs. A stage with a mode search takes longer per epoch."
        shown.append(page.figure(style.svg(figure), "Training and validation bound against seconds.", caption))
    return Section("learning", "Learning curves", page.grid([*shown, *_health(run, epochs, stages)]))


def _learning_caption(lines: Mapping[str, np.ndarray], cut: bool, stages: np.ndarray | None) -> str:
    text = "The lower bound on the log-likelihood after each epoch; higher is better."
    if len(lines) == 2:
        text += " A validation line that falls behind the training line means overfitting."
    if stages is not None and len(np.unique(stages)) > 1:
        text += " Stages of training are named on top, every second one shaded."
    return text + (" The first epochs lie below the frame." if cut else "")


def _health(run: Run, epochs: np.ndarray, stages: np.ndarray | None) -> list[str]:
    shown = []
    kl, gradient = run.metrics.get("kl"), run.metrics.get("grad_norm")
    if kl is not None and np.isfinite(kl).any():
        figure = figures.curves(epochs, {"kl": kl}, "epoch", "KL to the prior (nats)", stages)
        caption = "How much the posterior says about a datum; a curve that falls to zero means that it says nothing."
        shown.append(page.figure(style.svg(figure), "Divergence from the prior against the epoch.", caption))
    if gradient is not None and (gradient > 0).any():
        figure = figures.curves(epochs, {"norm": gradient}, "epoch", "gradient norm", stages, log=True)
        caption = "The norm of the gradient of training, on a logarithmic scale; peaks are unstable steps."
        shown.append(page.figure(style.svg(figure), "Gradient norm against the epoch.", caption))
    return shown


def results(run: Run) -> Section:
    """The table of results, with errors."""
    found = run.evaluation
    if found is None:
        return Section("results", "Results", absent=not_evaluated(run))
    rows = [*_evidence(found), *_bounds(run, found), *_others(found)]
    cells = [[Cell(name), Cell(value, number=True), Cell(meaning)] for name, value, meaning in rows]
    note = (
        f"Computed on {words.plural(found.count, 'datum', 'data')} of the {found.split} split, with "
        f"{words.plural(found.samples, 'draw', 'draws')} per datum and proposal, seed {found.seed}. What "
        "follows ± is one standard error of the mean over the data."
    )
    table = page.table(("Quantity", "Value ± error", "What it is"), cells)
    return Section("results", "Results", table + page.paragraph(note))


Row = tuple[str, str, str]


def _evidence(found: Evaluation) -> list[Row]:
    proposals = {
        "log p(x), Laplace proposal": (found.laplace, "the Laplace posterior at the mode, the same for every system"),
        "log p(x), own posterior": (found.own, "the system’s own posterior"),
    }
    rows = [
        (
            name,
            f"{words.measured(part.log_likelihood)} nats",
            f"Importance sampling from {source}. {_reliability(part)}",
        )
        for name, (part, source) in proposals.items()
        if part is not None
    ]
    if not rows and found.log_likelihood is not None:
        return [("log p(x)", f"{words.measured(found.log_likelihood)} nats", "Log-likelihood, exact.")]
    return rows


def _reliability(part: ProposalResult) -> str:
    text = f"Effective sample size {part.ess.median:,.0f} draws (median)"
    if math.isfinite(part.khat.median):
        text += f"; k-hat {part.khat.median:.2f}, above {figures.KHAT_LIMIT:g} for {words.share(part.khat.flagged, 1)}"
    monte_carlo = part.log_likelihood.monte_carlo
    return text + (f"; error from the draws alone {words.number(monte_carlo)} nats." if monte_carlo > 0 else ".")


def _bounds(run: Run, found: Evaluation) -> list[Row]:
    rows = []
    if found.elbo is not None:
        text = "The evidence lower bound with the system’s own posterior."
        rows.append(("ELBO", f"{words.measured(found.elbo)} nats", text))
    gap = inference_gap(run)
    if gap is not None:
        text = "log p(x) − ELBO, paired by datum: what the approximate posterior costs. Zero would be exact."
        rows.append(("Inference gap", f"{words.measured(gap)} nats", text))
    if found.kl is not None:
        text = "Divergence of the posterior from the prior: what the latents say about a datum."
        rows.append(("KL to the prior", f"{words.measured(found.kl)} nats", text))
    return rows


def inference_gap(run: Run) -> Estimate | None:
    """The mean of ``log p(x) - ELBO``, nats; its error is that of the paired differences."""
    total, elbo = run.per_datum.get("log_likelihood"), run.per_datum.get("elbo")
    if total is None or elbo is None:
        return None
    gap = (total - elbo)[run.per_datum.get("finite", np.isfinite(total - elbo))]
    return Estimate.of(gap) if len(gap) else None


def _others(found: Evaluation) -> list[Row]:
    rows = []
    if found.bits_per_dim is not None:
        of = f" Unit: {found.unit}." if found.unit else ""
        text = f"−log₂ p(x) per dimension of the data; lower is better.{of}"
        rows.append(("Bits per dimension", f"{words.measured(found.bits_per_dim)} bits/dim", text))
    if found.active_units is not None:
        of = f" of {len(found.activity)}" if found.activity else ""
        text = f"Latents whose posterior mean varies over the data with a variance above {ACTIVE:g}."
        rows.append(("Active units", f"{found.active_units}{of}", text))
    if found.reconstruction_error is not None:
        text = "Root mean square error of the decoded posterior mean, in the data’s own units."
        rows.append(("Reconstruction error", words.number(found.reconstruction_error), text))
    return rows


def per_datum(run: Run) -> Section:
    """How the log-likelihood and its reliability are spread over the data."""
    section = Section("per-datum", "Datum by datum", absent=not_evaluated(run))
    if run.evaluation is None:
        return section
    shown = [*_log_likelihoods(run), *_khats(run)]
    if not shown:
        return Section(section.slug, section.title, absent="evaluation.npz holds no values per datum.")
    return Section(section.slug, section.title, page.grid(shown))


def _present(run: Run, names: dict[str, str]) -> dict[str, np.ndarray]:
    found = {text: run.per_datum[name] for name, text in names.items() if name in run.per_datum}
    return {text: values for text, values in found.items() if np.isfinite(values).any()}


def _log_likelihoods(run: Run) -> list[str]:
    names = {"log_likelihood_own": "log p(x), own", "log_likelihood_laplace": "log p(x), Laplace", "elbo": "ELBO"}
    values = _present(run, names)
    if not values:
        return []
    low, high = figures.frame([column[np.isfinite(column)] for column in values.values()])
    outside = max(int((~((column >= low) & (column <= high))).sum()) for column in values.values())
    caption = (
        "How the log-likelihood is spread over the data, and the ELBO’s spread; dashed lines are the means. "
        "The left tail holds the data that the model finds strange."
    )
    if outside:
        caption += f" {words.plural(outside, 'datum lies', 'data lie')} outside the frame."
    figure = style.svg(figures.histograms(values, "nats"))
    return [page.figure(figure, "Histogram of the log-likelihood and of the ELBO of each datum.", caption)]


def _khats(run: Run) -> list[str]:
    values = _present(run, {"khat_own": "own posterior", "khat_laplace": "Laplace proposal"})
    if not values:
        return []
    caption = (
        f"Pareto k-hat of the importance weights: left of {figures.KHAT_LIMIT:g} the estimate of log p(x) and "
        "its error can be trusted, right of it the estimate tends to be too low."
    )
    figure = style.svg(figures.histograms(values, "k-hat", limit=figures.KHAT_LIMIT))
    return [page.figure(figure, "Histogram of k-hat for each datum, with the limit marked.", caption)]


def divergence(run: Run) -> Section:
    """Bars of the divergence and of the activity of each latent dimension."""
    section = Section("kl", "Use of the latent dimensions", absent=not_evaluated(run))
    if run.evaluation is None:
        return section
    kl, activity = (
        np.nan_to_num(np.array(values or [], dtype=float))
        for values in (run.evaluation.kl_per_dimension, run.evaluation.activity)
    )
    if not kl.size:
        return Section(section.slug, section.title, absent="this evaluation gives no KL per dimension.")
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
