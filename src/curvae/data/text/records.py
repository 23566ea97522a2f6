"""The rows of a text file one after the other: where each is, and how many cells it has."""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from curvae.data.text.delimiters import Separators, split_cells
from curvae.data.text.encoding import Utf8

Span = tuple[int, int]
"""Bytes from one place up to another."""


class TextRow(NamedTuple):
    """A row of a file, on one line or, in quotes, on several."""

    line: int
    """Its last line, from 1."""
    start: int
    stop: int
    text: str

    @property
    def span(self) -> Span:
        """Its bytes."""
        return self.start, self.stop

    def cells(self, by: Separators) -> list[str]:
        """What stands in it."""
        return next(split_cells([self.text], by), [])

    def width(self, by: Separators) -> int:
        """How many cells it has."""
        if by.delimiter in ("", " ") or (by.quote and by.quote in self.text):
            return len(self.cells(by))
        return self.text.count(by.delimiter) + 1


def records(lines: Iterable[bytes], quote: str) -> Iterator[TextRow]:
    """Rows of lines with their ends; a quote that is opened and not closed goes on in the next line.

    >>> [(each.line, each.text) for each in records([b'a\\n', b'"b\\n', b'c"\\n'], '"')]
    [(1, 'a'), (3, '"b\\nc"')]
    """
    mark = quote.encode()
    start = stop = 0
    waiting = b""
    for number, line in enumerate(lines, 1):
        stop += len(line)
        waiting = waiting + line if waiting else line
        if mark and waiting.count(mark) % 2 and len(waiting) < LONGEST and not _commented(waiting):
            continue
        yield TextRow(number, start, stop, waiting.decode("utf-8", "replace").rstrip("\r\n"))
        start, waiting = stop, b""
    if waiting:
        yield TextRow(number, start, stop, waiting.decode("utf-8", "replace").rstrip("\r\n"))


LONGEST = 2**24
"""Bytes of a row after which a quote is taken for one that nobody closed."""


def _commented(line: bytes) -> bool:
    return line.lstrip().startswith((b"#", b"%", b"//", b"!"))


class Body(io.RawIOBase):
    """The bytes of a text without some spans of them."""

    def __init__(self, text: Utf8, holes: Sequence[Span] = ()):
        super().__init__()
        self.file = text.open()
        self.first = self.file.tell()
        self.kept = _between(holes, text.size)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:
        while self.kept:
            start, stop = self.kept[0]
            self.file.seek(self.first + start)
            count = self.file.readinto(memoryview(buffer)[: stop - start])  # pyright: ignore[reportAttributeAccessIssue]
            if count:
                self.kept[0] = (start + count, stop)
                return count
            del self.kept[0]
        return 0


def opened_body(text: Utf8, holes: Sequence[Span]) -> io.BufferedReader:
    """A stream of the bytes that are left."""
    return io.BufferedReader(Body(text, holes), 2**18)


def _between(holes: Sequence[Span], size: int) -> list[Span]:
    """What the holes leave of so many bytes."""
    kept, place = [], 0
    for start, stop in sorted(holes):
        if start > place:
            kept.append((place, start))
        place = max(place, stop)
    return kept + ([(place, size)] if place < size else [])
