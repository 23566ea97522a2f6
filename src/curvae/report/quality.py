"""The part of the page on samples beside data."""

from curvae.evaluation.samples.results import KINDS, Likeness
from curvae.report import page, words
from curvae.report.page import Cell, Section
from curvae.report.read import Snapshot
from curvae.report.sections import not_evaluated

HEADER = ("Set", "Precision", "Recall", "Density", "Coverage", "Kernel distance")


def quality(run: Snapshot) -> Section:
    """Samples and reconstructions against held-out data, between two controls."""
    title = "Are samples like data?"
    if run.evaluation is None:
        return Section("quality", title, absent=not_evaluated(run))
    found = run.evaluation.quality
    if found is None:
        why = (
            f"it was not asked for, or there is nothing to compare; run `curvae evaluate {run.name} --quality` and "
            "write the report again."
        )
        return Section("quality", title, absent=why)
    rows = [_row(KINDS[name], row) for name, row in found.rows.items()]
    note = (
        f"Each set of {found.count:,} is compared with as many data of the {run.evaluation.split} split, by "
        f"{found.features}. Read each number between the first row, the best that is to be had, and the last one: no "
        "other library has these features, and none has these numbers. Precision is the share of the set that lies "
        f"where data are (within reach of {found.neighbors} neighbors), recall the share of data that lie where the "
        "set is; density and coverage are their likes that outliers lead less. The kernel distance is 0 on average for "
        "equal distributions. Draws of the model carry its noise, means do not."
    )
    return Section("quality", title, page.table(HEADER, rows) + page.paragraph(note))


def _row(name: str, row: Likeness) -> list[Cell]:
    shares = (row.precision, row.recall, row.density, row.coverage)
    cells = [Cell(f"{share:.2f}", number=True) for share in shares]
    return [Cell(name), *cells, Cell(words.measured(row.kernel), number=True)]
