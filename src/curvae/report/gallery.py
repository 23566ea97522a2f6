"""The parts of the page made of pictures: reconstructions, samples, the latent space, covariances, the mode search."""

from collections.abc import Callable, Mapping

import numpy as np

from curvae.data.own_units import lines_of
from curvae.evaluation import formatting
from curvae.report import figures, page, pictures, style
from curvae.report.page import PageSection
from curvae.report.roll_outs import STRIPS, strips_of
from curvae.report.sections import why_left_out, why_not_evaluated
from curvae.report.snapshot import Snapshot

Draw = Callable[[Snapshot], tuple[str, str]]
"""From a run that has pictures to ``(html, "")`` or ``("", why there is nothing to show)``."""


LINES = 12
"""Texts that are shown."""
MADE = ("samples", "completions")
"""Parts that need no latents."""


def picture_section(run: Snapshot, slug: str) -> PageSection:
    """A part of the page, one of :data:`PARTS`."""
    title, draw = PARTS[slug]
    if slug == "samples" and "samples" in run.pictures:
        title = "Samples from the prior"
    if run.evaluation is None:
        return PageSection(slug, title, absent=why_not_evaluated(run))
    if not run.pictures:
        return PageSection(slug, title, absent="this run has no pictures.npz.")
    html, why = draw(run)
    return PageSection(slug, title, html, why_left_out(run, why) if why and slug not in MADE else why)


def _reconstructions(run: Snapshot) -> tuple[str, str]:
    arrays = run.pictures
    name = "redrawn" if "redrawn" in arrays else "reconstructions"
    if not {"originals", name} <= arrays.keys() or not len(arrays["originals"]):
        return "", "this evaluation saved no reconstructions."
    count = min(len(arrays["originals"]), len(arrays[name]))
    originals, rebuilt = arrays["originals"][:count], arrays[name][:count]
    if pictures.shows_as_image(originals):
        kept = slice(0, 32)
        sheet = pictures.tiles(originals[kept], 8, pictures.gray_range(originals), rebuilt[kept])
        what = (
            "a draw of x given the posterior mean" if name == "redrawn" else "the decoder’s mean at the posterior mean"
        )
        caption = (
            f"Each pair shows an original above its reconstruction, {what}. "
            "Both use the same scale; what differs is what the latents do not carry."
        )
        return page.figure_tag(
            style.png_of(sheet), "Pairs of original and reconstructed images.", caption, "wide pixels"
        ), ""
    if pictures.shows_as_movie(originals):
        sheet = strips_of(originals[:STRIPS], pictures.gray_range(originals), rebuilt[:STRIPS])
        caption = "Each pair of strips shows a sequence above the mean of each frame given it and those before it."
        return page.figure_tag(style.png_of(sheet), "Strips of frames and reconstructions.", caption, "wide pixels"), ""
    left, right = (values.reshape(len(values), -1) for values in (originals, rebuilt))
    which = _first_columns(left.shape[1])
    caption = f"The reconstruction against the original value, {which}; a perfect one lies on the gray line."
    figure = style.svg(pictures.parity_plot(left, right, run.features))
    return page.figure_tag(figure, "Reconstructed against original values, by column.", caption, "wide"), ""


def _first_columns(number: int) -> str:
    return f"the first {pictures.COLUMNS} of {number} columns" if number > pictures.COLUMNS else "all columns"


def _samples(run: Snapshot) -> tuple[str, str]:
    arrays = run.pictures
    means = "samples" in arrays
    drawn = arrays.get("samples" if means else "draws", np.array([]))
    if not drawn.size:
        return "", "this evaluation saved no samples."
    if run.characters is not None:
        return _texts(run.characters, drawn, arrays.get("originals", drawn)), ""
    what = "latents drawn from the prior, and the mean that the decoder gives them" if means else "draws of it"
    if pictures.shows_as_image(drawn):
        limits = pictures.gray_range(arrays.get("originals", drawn))
        caption = f"What the model makes up: {what}, on the originals’ scale. They should look like the data"
        caption += ", only smoother." if means else "."
        sheet = pictures.tiles(drawn[:48], 8, limits)
        return page.figure_tag(style.png_of(sheet), "Images sampled from the model.", caption, "wide pixels"), ""
    if pictures.shows_as_movie(drawn):
        sheet = strips_of(drawn[: 2 * STRIPS], pictures.gray_range(arrays.get("originals", drawn)))
        caption = f"What the model makes up: {what}, a strip for each, on the originals’ scale."
        return page.figure_tag(style.png_of(sheet), "Sequences sampled from the model.", caption, "wide pixels"), ""
    made, real = (values.reshape(len(values), -1) for values in (drawn, arrays.get("originals", drawn)))
    figure = style.svg(pictures.column_histograms(made, real, run.features))
    caption = (
        f"What the model makes up (filled): {what}; and some of the data (outline), {_first_columns(made.shape[1])}. "
        f"The two should have the same shape{'; means spread a little less' if means else ''}."
    )
    return page.figure_tag(figure, "Histograms of sampled values and of data, by column.", caption, "wide"), ""


def _texts(characters: tuple[str, ...], drawn: np.ndarray, originals: np.ndarray) -> str:
    """Lines that the model makes up, beside some of the data."""
    made, real = (lines_of(characters, values[:LINES]) for values in (drawn, originals))
    rows = [[page.Cell(one), page.Cell(other)] for one, other in zip(made, real, strict=False)]
    return page.table(("Drawn", "Data"), rows) + page.paragraph("What the model makes up, beside rows of the data.")


def _latent(run: Snapshot) -> tuple[str, str]:
    arrays = run.pictures
    if "latent_mean" not in arrays or not len(arrays["latent_mean"]):
        return "", "this evaluation saved no posterior means."
    means = arrays["latent_mean"]
    if means.shape[1] < 2:
        return "", "the latent space has a single dimension; a plane needs two."
    finite = np.flatnonzero(np.isfinite(means).all(axis=1))
    spread = arrays.get("latent_covariance", np.zeros((0, means.shape[1], means.shape[1])))
    labels = arrays.get("labels")
    labels = labels[finite] if labels is not None and len(labels) == len(means) else None
    shown = means[finite]
    title = "label" if run.label is None else run.label.name
    figure = pictures.latent_plot(shown, spread[finite[finite < len(spread)]], labels, title=title)
    alt = "Scatter of posterior means in two dimensions, with ellipses of 95 percent."
    return page.figure_tag(
        style.svg(figure), alt, _latent_caption(shown, min(pictures.ELLIPSES, len(spread)), labels), "wide"
    ), ""


def _latent_caption(means: np.ndarray, ellipses: int, labels: np.ndarray | None) -> str:
    variance = pictures.plane(means)[2]
    flat = means.shape[1] == 2
    text = "Posterior means in the latent plane."
    if not flat:
        text = (
            f"Posterior means of {formatting.format_count(len(means), 'datum', 'data')} along the two of "
            f"{means.shape[1]} directions in which they vary most ({formatting.format_share(variance, 1)} of their "
            "variance)."
        )
    if ellipses:
        text += f" Each ellipse holds 95% of the posterior of one of the first {ellipses} data"
        text += (
            ": a tilted one is a correlation that a diagonal posterior cannot have."
            if flat
            else ", seen in this plane."
        )
    if labels is not None and len(np.unique(labels)) > 1:
        text += " Colors and markers are labels, which the model never saw."
    return text


def _covariances(run: Snapshot) -> tuple[str, str]:
    arrays = run.pictures
    matrices = arrays.get("covariances", np.zeros((0, 0, 0)))
    matrices = matrices[np.isfinite(matrices).all(axis=(1, 2))]
    if not len(matrices):
        return "", "this evaluation saved no posterior covariances."
    if matrices.shape[-1] < 2:
        return "", "the latent space has a single dimension, so nothing is correlated."
    off = np.eye(matrices.shape[-1]) == 0
    mean = float(np.abs(pictures.correlation(matrices)[:, off]).mean())
    deviation = np.sqrt(np.maximum(np.diagonal(matrices, axis1=1, axis2=2), 0))
    titles = [f"sd {_short(float(values.min()))}–{_short(float(values.max()))}" for values in deviation]
    finding = (
        "All else is zero: this posterior treats the latents as independent."
        if mean < 1e-6
        else f"Every color is a correlation that a diagonal posterior leaves out; the mean size is {mean:.2g}."
    )
    caption = (
        f"The correlation matrix of the posterior of {formatting.format_count(min(8, len(matrices)), 'datum', 'data')}"
        ", latent by latent, and above each its smallest and largest standard deviation. The diagonal, one by "
        f"definition, is left gray. {finding}"
    )
    figure = style.png(pictures.correlation_plot(matrices, titles), dpi=220)
    return page.figure_tag(figure, "Posterior correlation matrices of several data.", caption, "wide"), ""


def _short(value: float) -> str:
    return f"{value:#.2g}".rstrip(".")


def _search(run: Snapshot) -> tuple[str, str]:
    arrays = run.pictures
    joint = arrays.get("trace_log_joint", np.zeros((0, 0)))
    if joint.ndim != 2 or joint.shape[0] < 2 or not joint.size:
        return "", "this posterior comes from one pass of the encoder, without a search."
    left = joint[-1] - joint[:-1]
    shown = [
        page.figure_tag(
            style.svg(figures.bands(left, "log joint still to gain (nats)")),
            "Log joint still to be gained before each step of the mode search.",
            "How many nats of log p(x, z) lie between each step and the end of the search. A line that falls "
            "steeply and evenly is Newton’s method at work; a flat one needs more steps.",
        )
    ]
    gradient = arrays.get("trace_grad_norm", np.zeros((0, 0)))
    if gradient.ndim == 2 and gradient.shape[0] > 1:
        caption = (
            "The norm of the gradient of log p(x, z) at each step: at a mode it is zero. What is left at the "
            "last step is how far the search ended from a mode, or that it ended at a kink of a ReLU decoder."
        )
        figure = style.svg(figures.bands(gradient, "norm of the gradient", color=style.ORANGE))
        shown.append(page.figure_tag(figure, "Norm of the gradient at each step of the mode search.", caption))
    return page.grid(shown), ""


def _completions(run: Snapshot) -> tuple[str, str]:
    arrays = run.pictures
    hidden, drawn = arrays.get("hidden", np.array([])), arrays.get("completed", np.array([]))
    if not (hidden.size and pictures.shows_as_image(hidden)):
        return "", "this evaluation saved no completed pictures."
    count = len(hidden)
    rows = [hidden, *drawn.reshape(-1, *hidden.shape), arrays["originals"][:count]]
    caption = (
        "In the first row the lower half is hidden; below are two draws of it given the upper one, and in the last row "
        "the originals. Where the draws differ, the upper half does not decide."
    )
    sheet = pictures.tiles(np.concatenate(rows), count, pictures.gray_range(arrays["originals"]))
    return page.figure_tag(style.png_of(sheet), "Pictures with draws of their lower half.", caption, "wide pixels"), ""


PARTS: Mapping[str, tuple[str, Draw]] = {
    "reconstructions": ("Reconstructions", _reconstructions),
    "samples": ("Samples", _samples),
    "completions": ("What was hidden", _completions),
    "latent": ("Latent space", _latent),
    "covariances": ("Posterior covariances", _covariances),
    "search": ("Mode search", _search),
}
"""By slug: the title, and what draws it."""
