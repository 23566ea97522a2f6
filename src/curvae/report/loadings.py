"""The part of the page on what each latent means: loadings by column, and the variance that it explains."""

from curvae.data.schema import Column
from curvae.evaluation import formatting
from curvae.latents import Axes
from curvae.report import page
from curvae.report.page import Cell, PageSection
from curvae.report.snapshot import Snapshot

COLUMNS, LATENTS = 60, 12
"""The most that are shown."""


def loading_sections(run: Snapshot) -> list[PageSection]:
    """A table for runs on tables; for other runs, whose latents are as they were trained, nothing."""
    title, axes = "What the latents mean", run.axes
    if axes is None:
        return []
    if isinstance(axes, str):
        return [PageSection("loadings", title, absent=axes)]
    if len(axes.loadings) != len(run.columns):
        return [PageSection("loadings", title, absent="the decoder gives no mean for each column.")]
    return [PageSection("loadings", title, _table(axes, run.features) + page.paragraph(_note(axes)))]


def _table(axes: Axes, features: tuple[Column, ...]) -> str:
    shown = min(LATENTS, len(axes.gains))
    each = axes.standardized[:, :shown]
    strongest = sorted(each.abs().amax(1).topk(min(COLUMNS, len(features))).indices.tolist())
    rows = [_row(features[column].name, _cells(features[column], each[column].tolist())) for column in strongest]
    rows.append(
        _row("variance explained", [formatting.format_share(value, 1) for value in axes.shares[:shown].tolist()])
    )
    rows.append(
        _row("signal over noise", [formatting.format_number(value, figures=2) for value in axes.gains[:shown].tolist()])
    )
    return page.table(("Column", *(f"z{latent}" for latent in range(shown))), rows)


def _cells(column: Column, values: list[float]) -> list[str]:
    """Of a category, which has no mean, none."""
    return ["–" if column.kind == "category" else _signed(value) for value in values]


def _note(axes: Axes) -> str:
    total = formatting.format_share(float(axes.shares.sum()), 1)
    text = (
        "How far the mean of a column moves, in its standard deviations, as a latent moves by 1 (a standard deviation "
        "of its prior): the mean slope of the decoder over training rows. Latents are ordered by what the decoder says "
        "through them, and signed so that large slopes are positive on balance (the sum of their cubes), whatever the "
        "seed. “Variance explained” is that of the decoder’s mean when this latent alone is drawn from its prior, as a "
        f"share of the variance of all columns, each scaled to 1; together {total}. Loadings in units of the columns: "
        "`fitted.loadings()`."
    )
    hidden = [
        f"{most} of {count} {what}"
        for most, count, what in ((COLUMNS, len(axes.loadings), "columns"), (LATENTS, len(axes.gains), "latents"))
        if count > most
    ]
    text += f" Shown are {' and '.join(hidden)}." if hidden else ""
    return f"{text} Of these, {axes.note}" if axes.note else text


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _row(name: str, values: list[str]) -> list[Cell]:
    return [Cell(name), *(Cell(value, number=True) for value in values)]
