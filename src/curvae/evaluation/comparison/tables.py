"""A comparison as tables for a terminal."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from curvae.evaluation.comparison.compare import ComparedRun, Comparison, Difference

COLUMNS = ("run", "log p(x)", "from", "ELBO", "gap", "flagged", "active", "seconds")


def text(parts: Iterable[RenderableType], width: int) -> str:
    """What rich prints, as plain text without colors."""
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, legacy_windows=False)
    for part in parts:
        console.print(part)
    return file.getvalue()


def renderables(comparison: "Comparison") -> Iterator[RenderableType]:
    """What rich prints: the runs, the differences from the first, and the notes."""
    flagged = any(row.flagged for row in comparison.rows)
    yield _runs(comparison)
    if over := comparison.over_baselines:
        yield _differences(over)
    if flagged and (over := comparison.over_baselines_trusted):
        yield _differences(over, ", without flagged data")
    if found := comparison.differences:
        yield _differences(found)
    if flagged and (found := comparison.trusted):
        yield _differences(found, ", without flagged data")
    for note in comparison.notes:
        yield Text(note)


def _runs(comparison: "Comparison") -> Table:
    title = f"{comparison.data}, {comparison.split}, {comparison.count:,} data; nats per datum ({comparison.unit})"
    cells = [_cells(row) for row in (*comparison.baselines, *comparison.rows)]
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, (heading, column) in enumerate(zip(COLUMNS, zip(*cells, strict=True), strict=True)):
        width = max(map(len, (*heading.split(), *column))) if i else None
        table.add_column(heading, justify="left" if i in (0, 2) else "right", min_width=width)
    for row in cells:
        table.add_row(*row)
    return table


def _cells(row: "ComparedRun") -> tuple[str, ...]:
    return (
        escape(row.name),
        _or_dash(row.log_likelihood),
        row.proposal,
        _or_dash(row.elbo),
        _known(row.gap, ".2f"),
        _known(row.flagged, ".1%"),
        "-" if row.active_units is None else f"{row.active_units}/{row.latents}",
        _known(row.seconds, ",.0f"),
    )


def _differences(differences: Sequence["Difference"], over: str = "") -> Table:
    """With a column that says from what, where that is not the same throughout."""
    several = len({difference.against for difference in differences}) > 1
    against = "the baselines" if several else differences[0].against
    title = f"Difference from {escape(against)}, paired by datum{over}"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    words = ("run", "less") if several else ("run",)
    for column in (*words, "nats", "paired stderr", "standard errors", "p", "p (Holm)", "data"):
        table.add_column(column, justify="left" if column in words else "right")
    for difference in differences:
        names = (difference.name, difference.against) if several else (difference.name,)
        table.add_row(*map(escape, names), *_difference(difference))
    return table


def _difference(difference: "Difference") -> tuple[str, ...]:
    return (
        _known(difference.value, "+.2f"),
        _known(difference.stderr, ".2f"),
        _known(difference.stderrs, "+.1f"),
        _p_value(difference.p_value),
        _p_value(difference.p_holm),
        f"{difference.count:,}",
    )


def _known(number: float | None, spec: str) -> str:
    return "-" if number is None or math.isnan(number) else format(number, spec)


def _p_value(p: float) -> str:
    return "-" if p != p else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _or_dash(value: object | None) -> str:
    return "-" if value is None else str(value)
