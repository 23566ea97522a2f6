"""Small tables for notebooks: escaped, without scripts or styles of their own."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

ROWS = 30
"""Of a table, at most; how many more there are is said."""


def html_table(title: str, rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> str:
    """A title and a table, in HTML; every word is escaped.

    Args:
        title: above it.
        rows: cells of each row.
        header: names of the columns, if any.

    Example:
        >>> html_table("Data", [("<u>", 1)])
        '<div><b>Data</b><table><tr><td>&lt;u&gt;</td><td>1</td></tr></table></div>'
    """
    rows = iter(rows)
    shown = [_row(cells, "td") for cells in islice(rows, ROWS)]
    more = sum(1 for _ in rows)
    head = _row(header, "th") if header else ""
    rest = f"<p>{more:,} more rows</p>" if more else ""
    return f"<div><b>{escape(title)}</b><table>{head}{''.join(shown)}</table>{rest}</div>"


def _row(cells: Sequence[object], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
