"""What stands between the cells of a text table, seen from many of its lines."""

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from curvae.data.text.encoding import Utf8
from curvae.data.text.numbers import form

HEAD, BLOCK, BLOCKS = 2**16, 2**12, 8
SHOWN, LONG = 60, 200
LETTERS = 20_000
"""So many letters of a sample are looked at."""
CANDIDATES = (",", ";", "\t", "|", " ")
COMMENTS = ("#", "%", "//", "!")
CLEAR = 0.9
"""Whoever has less than this share of the best one's score is out."""


class Sample(NamedTuple):
    """Lines of a text file: its first ones, and some from the rest of it."""

    head: list[str]
    others: list[str]
    whole: bool
    """Whether the head is all there is."""

    @property
    def rows(self) -> list[str]:
        """Lines that are neither empty nor comments."""
        found = [
            line for line in self.head + self.others if line.strip() and not is_comment(line) and not is_rule(line)
        ]
        return thinned(found)


class Separators(NamedTuple):
    """What stands between cells and around them."""

    delimiter: str
    quote: str = '"'


def is_comment(line: str, marks: Sequence[str] = COMMENTS) -> bool:
    """Whether a line is a comment."""
    text = line.lstrip(" \t\"'") if line[:1] in "\"'" else line.lstrip(" \t")
    return text.startswith(tuple(marks))


def thinned(rows: list[Any], letters: int = LETTERS) -> list[Any]:
    """Some of many rows, from all over them, the first ones too; all of few."""
    size = sum(map(len, rows)) if rows and isinstance(rows[0], str) else 8 * sum(map(len, rows))
    step = min(max(1, size // letters), max(1, len(rows) // 20))
    return rows if step == 1 else rows[:10] + rows[10::step]


def is_rule(line: str) -> bool:
    """Whether a line is drawn between names and rows."""
    return ("---" in line or "===" in line) and not line.strip(" -+=|:,;\t\r\n")


def sampled(text: Utf8) -> Sample:
    """Lines from all over a file."""
    with text.open() as file:
        start, head = file.tell(), file.read(HEAD)
        while b"\n" not in head and (more := file.read(HEAD)):
            head += more
        whole = len(head) >= text.size
        first = (head if whole else head[: head.rfind(b"\n") + 1]).decode("utf-8", "replace")
        step = (text.size - len(head)) // BLOCKS
        others: list[str] = []
        for number in range(0 if whole else BLOCKS):
            file.seek(start + len(head) + max(0, (number + 1) * step - BLOCK))
            others += file.read(BLOCK).decode("utf-8", "replace").splitlines()[1:-1]
    return Sample(first.split("\n"), others, whole)


def separators(sample: Sample, decimal: str | None = None) -> Separators:
    """The delimiter and the quote: those that give rows of one width, of cells that mean something.

    Args:
        sample: lines of the file.
        decimal: what stands before decimals, if it was said: a comma then is no delimiter.
    """
    rows = [_short(line) for line in sample.rows]
    quote = _quote(rows)
    candidates = [each for each in CANDIDATES if not (decimal == each == ",")]
    scores = {each: _score(rows, Separators(each, quote)) for each in candidates}
    best = max(scores.values(), default=0)
    left = [each for each in candidates if best and scores[each] >= CLEAR * best]
    if not left:
        return Separators("", quote)
    if "\t" in left and " " in left:
        left.remove(" ")
    return Separators(left[0] if len(left) == 1 else _by_clevercsv(rows, left), quote)


def _by_clevercsv(rows: Sequence[str], left: Sequence[str]) -> str:
    from clevercsv.detect import Detector

    found = Detector().detect("\n".join(rows[:SHOWN]), delimiters=list(left))
    delimiter = None if found is None else found.delimiter
    return delimiter if delimiter is not None and delimiter in left else left[0]


def _short(line: str) -> str:
    """A line without what makes cells long."""
    line = line.rstrip("\r\n")
    return line if len(line) < LONG else re.sub(rf"[^\s,;|\"']{{{LONG},}}", lambda found: found[0][:9], line)


def _quote(rows: Sequence[str]) -> str:
    """Double quotes, unless only single ones stand where cells begin and end."""
    if any('"' in line for line in rows):
        return '"'
    single = sum(bool(re.search(r"(?:^|[,;\t| ])'[^']*'(?=$|[,;\t| ])", line)) for line in rows)
    return "'" if rows and single >= 0.5 * len(rows) else '"'


def _score(rows: Sequence[str], by: Separators) -> float:
    """Share of rows that have the most frequent width, times the share of their cells that mean something."""
    cells = [row for row in split_cells(rows, by) if row]
    widths = Counter(len(row) for row in cells if len(row) > 1)
    if not widths:
        return 0.0
    width, count = widths.most_common(1)[0]
    marks = set(",;\t|") - {by.delimiter}
    clear = [_meaning(cell, marks) for row in cells if len(row) == width for cell in row]
    return count / len(cells) * sum(clear) / len(clear)


def _meaning(cell: str, marks: set[str]) -> float:
    """How probable it is that this is one cell."""
    kind = form(cell)
    if kind != "word":
        return 1.0
    parts = cell.split()
    if len(parts) > 1 and all(form(part) in ("whole", "decimal") for part in parts):
        return 0.2
    found = marks.intersection(cell)
    return 0.2 if found - {","} or cell.strip().endswith(",") else 0.6 if found else 0.9


def split_cells(lines: Sequence[str], by: Separators) -> Iterator[list[str]]:
    """The cells of each row; of runs of spaces and tabs where they are the delimiter."""
    if not by.delimiter:
        yield from ([unquoted(line, by.quote)] for line in lines)
        return
    if by.delimiter == " ":
        lines = [re.sub(r"[ \t]+", " ", line.strip()) for line in lines]
    quoting = csv.QUOTE_MINIMAL if by.quote else csv.QUOTE_NONE
    with _long_cells():
        yield from csv.reader(
            lines, delimiter=by.delimiter, quotechar=by.quote or None, quoting=quoting, skipinitialspace=True
        )


def unquoted(text: str, quote: str) -> str:
    """A cell without the quotes around it."""
    text = text.strip()
    if quote and len(text) > 1 and text[0] == text[-1] == quote:
        return text[1:-1].replace(quote * 2, quote)
    return text


@contextmanager
def _long_cells() -> Iterator[None]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
