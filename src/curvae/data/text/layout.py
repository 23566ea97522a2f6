"""Where things are in a text table: what stands above the names, names, units, row names, what stands below."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from curvae.data.errors import DataError
from curvae.data.text.delimiters import Sample, Separators, is_comment, is_rule, split_cells, thinned
from curvae.data.text.headers import DATA, NAMES, log_odds
from curvae.data.text.numbers import form
from curvae.data.text.records import Span, TextRow, records

SEP = re.compile(r"\"?sep=(.|\\t)\"?\Z", re.IGNORECASE)
UNIT = re.compile(
    r"[\[(].*[\])]\Z|[-–—%‰°]?\Z|°[CFK]?\Z|(?:[kMGcmµunpdhT]?(?:m|g|s|l|L|Hz|Pa|bar|V|A|W|J|N|K|C|eV|mol|rad|deg|B|bit|Jy|pc)"
    r"|mag|min|h|hr|yr?|yrs|years?|days?|d|kg|lbs?|oz|in|ft|mi|cm|mm|km|nm|au|AU|dex|count|counts|ADU|arcsec|arcmin|unit|"
    r"units|none|mmHg|hPa|ppm|ppb|percent|US\$|USD|EUR)(?:\^?-?\d|[²³⁻¹])*(?:[*/· ]\S+)*\Z"
)
HEADINGS = 4
"""At most so many rows of names and units."""


@dataclass(frozen=True)
class Layout:
    """Where the rows of a text table are, and what its columns are called."""

    width: int
    names: tuple[str, ...] | None = None
    """As the file has them, nothing where a column has none; None if there are none at all."""
    header: int = 0
    """Rows of names; -1 = in a comment."""
    units: tuple[str, ...] = ()
    holes: tuple[Span, ...] = ()
    """Bytes that are no rows: what stands above them."""
    above: int = 0
    """Lines above the names."""
    headings: int = 0
    """Rows of names and of what describes them."""
    short: bool = False
    """Whether the first column names the rows: it has no name at all, as R writes it, or one in a row of its own."""
    rows: list[list[str]] = field(default_factory=list, repr=False)
    """Cells of some rows from all over the file."""
    comments: bool = False
    """Whether there are comments among the rows."""


@dataclass(frozen=True)
class Expected:
    """What is known of a table before it is looked at."""

    header: bool | None = None
    known: frozenset[str] = frozenset()
    """Names of columns that are expected."""
    likely: bool | None = None
    """Whether a table like it had names."""


def declared(sample: Sample) -> str | None:
    """The delimiter that the first line names, as Excel writes it: ``sep=;``."""
    found = SEP.match(sample.head[0].strip().lstrip("\ufeff")) if sample.head else None
    return found and found[1].replace("\\t", "\t")


def laid_out(what: str, sample: Sample, by: Separators, asked: Expected) -> Layout:
    """The layout of a table.

    Raises:
        DataError: it has no rows, or the first one may be names as well as data.
    """
    ends = [f"{line}\n".encode() for line in sample.head[:-1]] + [sample.head[-1].encode()]
    top = [each for each in records(ends, by.quote) if each.text.strip()]
    if declared(sample):
        top = top[1:]
    table = [each for each in top if not _is_note(each) and not is_rule(each.text)]
    if not table:
        raise DataError(f"{what}: expected a table, got an empty file.")
    cells = _cells(table, by)
    others = list(split_cells(thinned([line for line in sample.others if line.strip() and not is_comment(line)]), by))
    width = _width(cells, others)
    first = _first(cells, width)
    rows = [row for row in thinned(cells[first:]) + others if len(row) == width]
    layout = _headed(what, table[first:], cells[first:], Layout(width, rows=rows), by, asked)
    begun = first + layout.headings
    start = table[begun].start if begun < len(table) else table[-1].stop
    notes = [each for each in top if _is_note(each)]
    if layout.names is None and asked.header is not False:
        layout = _named_by_comment(layout, [each for each in notes if each.start < start], by)
    inside = any(each.start > start for each in notes) or any(map(is_comment, sample.others))
    return replace(
        layout, holes=((0, start),), above=table[first].line - 1 if first < len(table) else 0, comments=inside
    )


def _is_note(record: TextRow) -> bool:
    return is_comment(record.text)


def _cells(table: Sequence[TextRow], by: Separators) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in split_cells([each.text for each in table], by)]


def _width(cells: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> int:
    """Cells of most rows."""
    return Counter(map(len, [*cells, *others])).most_common(1)[0][0]


def _first(cells: Sequence[Sequence[str]], width: int) -> int:
    """The first row that belongs to the table: those above it are narrower, or have one cell alone."""
    for number, row in enumerate(cells):
        below = len(cells[number + 1]) if number + 1 < len(cells) else width
        alone = width > 2 and sum(map(bool, row)) <= 1 and number + 1 < len(cells)
        if len(row) in (width, width - 1, width + 1) and below == width and not alone and any(row):
            return number
    return 0


def _headed(
    what: str, table: Sequence[TextRow], cells: Sequence[list[str]], layout: Layout, by: Separators, asked: Expected
) -> Layout:
    """With the rows of names and of units."""
    count = 0 if asked.header is False else _headings(what, table, cells, layout, by, asked)
    if count == 0:
        return layout
    head = [_fitted(row, cells, layout.width) for row in cells[:count]]
    short = len(cells[0]) == layout.width - 1 and not _trailing(cells[1:], layout.width)
    rows = [row for row in layout.rows if row not in cells[:count]]
    names = head[0]
    units: tuple[str, ...] = ()
    short = short or (count > 2 and not any(cells[count - 1][1:]))
    if count > 1 and _distinct(names):
        units, head = tuple(head[-1]), head[:1]
    elif count > 2 and any(head[-1][1:]) and all(map(UNIT.match, filter(None, head[-1]))):
        units, head = tuple(head[-1]), head[:-1]
    if len(head) > 1:
        names = [".".join(filter(None, parts)) for parts in zip(*map(_spread, head[:-1]), head[-1], strict=True)]
    known = replace(layout, names=_unquoted(names), header=len(head), units=units)
    return replace(known, headings=count, short=short, rows=rows)


def _unquoted(names: Sequence[str]) -> tuple[str, ...]:
    """Names without single quotes, where all of them have some: in the rows they mean themselves."""
    given = [name for name in names if name]
    quoted = bool(given) and all(len(name) > 2 and name[0] == name[-1] == "'" for name in given)
    return tuple(name[1:-1] if quoted and name else name for name in names)


def _fitted(row: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[str]:
    """Names of as many columns as the rows have."""
    if len(row) == width - 1:
        return [*row, ""] if _trailing(cells[1:], width) else ["", *row]
    return list(row[:width])


def _trailing(cells: Sequence[Sequence[str]], width: int) -> bool:
    """Whether the last cell of every row is empty: a delimiter too many."""
    rows = [row for row in cells if len(row) == width]
    return bool(rows) and not any(row[-1] for row in rows)


def _distinct(names: Sequence[str]) -> bool:
    given = [name for name in names[1:] if name] + list(names[:1])
    return len(set(given)) == len(given) == len(names)


def _spread(names: Sequence[str]) -> list[str]:
    """Names of groups of columns, which stand above the first column of each."""
    spread: list[str] = []
    for name in names:
        spread.append(name or (spread[-1] if spread else ""))
    return spread


def _headings(
    what: str, table: Sequence[TextRow], cells: Sequence[list[str]], layout: Layout, by: Separators, asked: Expected
) -> int:
    """How many rows above the data are names and units."""
    numeric = _numeric(cells, layout)
    count = int(asked.header is True or _is_header(what, table, cells, layout, by, asked, numeric))
    while 0 < count < min(HEADINGS, len(cells) - 1) and _names_columns(cells[count], numeric):
        count += 1
    return count + (1 < count < len(cells) - 1 and _names_rows(cells[count], numeric))


def _numeric(cells: Sequence[Sequence[str]], layout: Layout) -> list[int]:
    """Places of the columns that hold numbers, whatever stands above them."""
    rows = layout.rows if len(layout.rows) > 2 * HEADINGS else [row for row in cells if len(row) == layout.width]
    rows = rows[len(rows) // 2 :] if len(rows) < 20 else rows[HEADINGS:]
    found = []
    for place in range(layout.width):
        forms = Counter(form(row[place]) for row in rows)
        numbers = forms["whole"] + forms["decimal"]
        if numbers and numbers >= forms["word"] + forms["date"]:
            found.append(place)
    return found


def _names_columns(row: Sequence[str], numeric: Sequence[int]) -> bool:
    """Whether a row has words where the columns have numbers, and numbers nowhere."""
    forms = [form(row[place]) for place in numeric if place < len(row)]
    return "word" in forms and not {"whole", "decimal"} & set(forms)


def _names_rows(row: Sequence[str], numeric: Sequence[int]) -> bool:
    """Whether a row has one word alone, for the column beside those of numbers: pandas names an index so."""
    return bool(row) and form(row[0]) == "word" and not any(row[1:]) and bool(set(numeric) - {0})


def _is_header(
    what: str,
    table: Sequence[TextRow],
    cells: Sequence[list[str]],
    layout: Layout,
    by: Separators,
    asked: Expected,
    numeric: Sequence[int],
) -> bool:
    first, others = cells[0], layout.rows[1:] if layout.rows[:1] == [cells[0]] else layout.rows
    if asked.known and asked.known <= set(first):
        return True
    if len(first) != layout.width or not others:
        return len(first) != layout.width or {form(cell) for cell in first} <= {"word"}
    if numeric and _names_columns(first, numeric):
        return True
    if not numeric and not any(cell in {row[j] for row in others} for j, cell in enumerate(first)):
        return True
    quoted = [bool(by.quote) and by.quote in each.text for each in table[:50]]
    odds = log_odds(first, others, quoted[0], sum(quoted[1:]) / max(1, len(quoted) - 1))
    if DATA < odds < NAMES:
        if asked.likely is None:
            got = f"a first row that may be either, {', '.join(first[:6])}"
            raise DataError(f"{what}: expected names or data, got {got}; say header=True or header=False.")
        return asked.likely
    return odds >= NAMES


def _named_by_comment(layout: Layout, notes: Sequence[TextRow], by: Separators) -> Layout:
    """Names in the last comment above the rows, if there are as many as columns."""
    if not notes:
        return layout
    text = notes[-1].text.strip().lstrip("#%!/").strip()
    for each in (by, Separators(" ", '"'), Separators(",", '"')):
        names = [name.strip() for name in next(split_cells([text], each), [])]
        if names[:1] == [""]:
            names[0] = "#"
        if len(names) == layout.width and all(names) and len(set(names)) == len(names):
            return replace(layout, names=tuple(names), header=-1)
    return layout
