"""The rows of a text table to a pandas frame, without what is between and below them and is no row."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from curvae.data.errors import DataError
from curvae.data.text.cells import Frame
from curvae.data.text.delimiters import Separators, is_comment, is_rule
from curvae.data.text.encoding import Utf8
from curvae.data.text.layout import Layout
from curvae.data.text.numbers import PANDAS, form
from curvae.data.text.records import Span, TextRow, opened_body, records

TOTALS = (
    "total totals sum sums subtotal average averages avg mean median std count grand overall all summe gesamt "
    "insgesamt mittelwert durchschnitt somme moyenne suma totale media totaux ensemble promedio"
)
"""First words of a last line that sums up those above it."""
TAIL, LAST, SHOWN = 2**14, 12, 5


class Plan(NamedTuple):
    """What pandas has to know."""

    what: str
    text: Utf8
    by: Separators
    decimal: str
    layout: Layout
    missing: tuple[str, ...] = ()

    def read(self, **options: Any) -> Frame:
        """The rows, columns called by their places."""
        import pandas

        options = {"names": range(self.layout.width), "index_col": False, "skipinitialspace": True, **options}
        if "dtype" not in options:
            options |= {"na_values": [*PANDAS, *self.missing], "keep_default_na": False, "decimal": self.decimal}
        options |= {"quotechar": self.by.quote} if self.by.quote else {"quoting": 3}
        delimiter = {" ": r"\s+", "": "\x1f"}.get(self.by.delimiter, self.by.delimiter)
        with opened_body(self.text, self.layout.holes) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            warnings.simplefilter("ignore", pandas.errors.DtypeWarning)
            return pandas.read_csv(file, sep=delimiter, header=None, **options)


def frame_of(plan: Plan) -> tuple[Plan, Frame, list[str]]:
    """The frame, the plan with every hole that was found on the way, and what the holes below the names are.

    Raises:
        DataError: rows of other widths, no rows.
    """
    holes, told = _below(plan)
    plan = _with(plan, holes)
    frame = None if plan.layout.comments else _tried(plan)
    if frame is None or _is_odd(plan, frame):
        holes, said = _between(plan)
        told += said
        if frame is None or holes:
            plan = _with(plan, holes)
            frame = _tried(plan)
    if frame is None:
        raise DataError(f"{plan.what}: expected a table, got rows that cannot be told apart; mend its quotes.")
    if not len(frame):
        mend = "pass header=False if it is data" if plan.layout.header else "add some"
        raise DataError(f"{plan.what}: expected rows below the header, got none; {mend}.")
    return plan, frame, told


def _with(plan: Plan, holes: Sequence[Span]) -> Plan:
    return plan._replace(layout=replace(plan.layout, holes=(*plan.layout.holes, *holes)))


def _tried(plan: Plan) -> Frame | None:
    import pandas

    try:
        return plan.read()
    except pandas.errors.EmptyDataError:
        return pandas.DataFrame(columns=range(plan.layout.width))
    except UnicodeDecodeError:
        raise
    except (pandas.errors.ParserError, pandas.errors.ParserWarning, ValueError):
        return None


def _is_odd(plan: Plan, frame: Frame) -> bool:
    """Whether some rows may have fewer cells, or words where the others have numbers."""
    if frame.iloc[:, -1].isna().any():
        return True
    rows = plan.layout.rows
    for place, dtype in enumerate(frame.dtypes):
        if getattr(dtype, "kind", "O") not in "biuf" and rows:
            forms = {form(row[place]) for row in rows}
            if forms <= {"whole", "decimal", "missing"}:
                return True
    return False


def _below(plan: Plan) -> tuple[list[Span], list[str]]:
    """Lines at the end that are no rows: notes, empty cells, a total."""
    first, found = plan.layout.holes[0][1], list[TextRow]()
    with plan.text.open() as file:
        start = max(first, plan.text.size - TAIL)
        file.seek(file.tell() + start)
        lines = file.readlines()
    if start > first:
        start += len(lines.pop(0)) if lines else 0
    for each in reversed(list(records(lines, plan.by.quote))[-LAST:]):
        kind = _kind(plan, each, last=not found)
        if kind is None:
            break
        found.append(each._replace(start=each.start + start, stop=each.stop + start))
    told = [f"{each.text.strip()[:40]!r}" for each in reversed(found) if each.text.strip(" \t,;|\"'")]
    return [each.span for each in found], told


def _kind(plan: Plan, record: TextRow, last: bool = False) -> str | None:
    """What a line is that is no row of data; None for a row."""
    by, width = plan.by, plan.layout.width
    if not record.text.strip(" \t\"'" + by.delimiter):
        return "empty"
    if is_rule(record.text):
        return "rule"
    if is_comment(record.text, ("#",)):
        return "comment"
    cells = [cell.strip() for cell in record.cells(by)]
    if len(cells) != width:
        return (
            "note" if last and width > 1 and len(cells) < width and form(cells[0]) == "word" and _few(cells) else None
        )
    if plan.layout.header and cells == list(plan.layout.names or ()):
        return "names"
    return "total" if last and _sums_up(cells) else None


def _few(cells: Sequence[str]) -> bool:
    return sum(map(bool, cells)) == 1 or not any(form(cell) in ("whole", "decimal") for cell in cells)


def _sums_up(cells: Sequence[str]) -> bool:
    """Whether a row is called a total, and has else numbers or nothing."""
    words = [cell for cell in cells if form(cell) == "word"]
    named = len(words) == 1 and words[0].split()[0].lower().strip(":") in TOTALS.split()
    return named and any(form(cell) in ("whole", "decimal") for cell in cells)


def _between(plan: Plan) -> tuple[list[Span], list[str]]:
    """Lines among the rows that are none: comments, empty cells, names once more.

    Raises:
        DataError: rows with another number of cells.
    """
    holes, odd, told = list[Span](), list[tuple[int, int]](), list[str]()
    width, by = plan.layout.width, plan.by
    for each in table_rows(plan):
        kind = _kind(plan, each)
        if kind is not None:
            holes.append(each.span)
            told += [f"{each.text.strip()[:40]!r}"] if kind == "names" else []
        elif (got := each.width(by)) != width:
            odd.append((each.line, got))
    if odd:
        raise DataError(f"{plan.what}: {_ragged(width, odd)}")
    return holes, told


def _ragged(width: int, odd: Sequence[tuple[int, int]]) -> str:
    others = ", ".join(str(line) for line, _ in odd[1:SHOWN])
    more = f", and other numbers than {width} in {len(odd) - 1:,} more, as in line {others}" if odd[1:] else ""
    return (
        f"expected {width} cells a row as in the first, got {odd[0][1]} in line {odd[0][0]}{more}; mend the line, or "
        "put quotes around cells that hold the delimiter."
    )


def table_rows(plan: Plan) -> Iterator[TextRow]:
    """The rows of a file one after the other, without its holes; slow, for what needs the line of a row."""
    holes = set(plan.layout.holes[1:])
    begin = plan.layout.holes[0][1]
    with plan.text.open() as file:
        head = file.read(begin)
        lines = head.count(b"\n")
        for each in records(file, plan.by.quote):
            found = each._replace(line=each.line + lines, start=each.start + begin, stop=each.stop + begin)
            if each.text.strip() and found.span not in holes:
                yield found


def line_of(plan: Plan, row: int) -> int:
    """The line on which a row ends."""
    return next((each.line for number, each in enumerate(table_rows(plan)) if number == row), 0)
