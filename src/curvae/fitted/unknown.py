"""Rows that may be unknown to a run, in any form in which rows come."""

from typing import TYPE_CHECKING, Any

from curvae.evaluation import NamedTable, UnknownInputs, unknown_inputs
from curvae.fitted.rows import rows_of

if TYPE_CHECKING:
    from curvae.training import RunFolder


def unknown_rows(run: "RunFolder", x: Any, against: Any = None, **options: Any) -> UnknownInputs:
    """:func:`curvae.evaluation.unknown_inputs` of rows in their own units."""
    others = None if against is None else NamedTable(_named(against, "the others"), rows_of(run, against).table)
    return unknown_inputs(run, NamedTable(_named(x, "x"), rows_of(run, x).table), others, **options)


def _named(rows: Any, otherwise: str) -> str:
    return rows if isinstance(rows, str) else otherwise
