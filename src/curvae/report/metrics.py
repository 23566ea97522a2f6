"""The parts of the page that metrics say themselves: a table and a note."""

from curvae.evaluation.information import information
from curvae.evaluation.metric import Section as Part
from curvae.evaluation.samples import quality
from curvae.report import page
from curvae.report.page import Cell, Section
from curvae.report.read import Snapshot
from curvae.report.sections import left_out, not_evaluated

DESCRIBED = "What it is"
"""A column of text, below the others where the screen is narrow."""


def quality_of(run: Snapshot) -> Section:
    """Samples and reconstructions against held-out data."""
    if run.evaluation is None:
        return Section("quality", quality.TITLE, absent=not_evaluated(run))
    found = run.evaluation.quality
    return drawn(quality.absent(run.name) if found is None else found.section(run.evaluation.split))


def information_of(run: Snapshot) -> Section:
    """What latents say about data, and the aggregate posterior against the prior."""
    if run.evaluation is None:
        return Section("information", information.TITLE, absent=not_evaluated(run))
    found = run.evaluation.information
    if found is None:
        return Section("information", information.TITLE, absent=left_out(run, information.ABSENT))
    return drawn(found.section())


def of_others(run: Snapshot) -> list[Section]:
    """What metrics found that are not of every report."""
    found = run.evaluation.metrics.values() if run.evaluation else ()
    return [drawn(each.section) for each in found if each.section is not None]


def drawn(found: Part) -> Section:
    """A table with a note below it."""
    if found.absent:
        return Section(found.slug, found.title, absent=found.absent)
    described = found.header[-1:] == (DESCRIBED,)
    last = len(found.header) - described
    rows = [[Cell(text, number=0 < i < last) for i, text in enumerate(row)] for row in found.rows]
    table = page.table(found.header, rows, "described" if described else "") if rows else ""
    return Section(found.slug, found.title, table + (page.paragraph(found.note) if found.note else ""))
