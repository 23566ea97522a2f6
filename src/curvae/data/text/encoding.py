"""The bytes of a text file to UTF-8, a line an ``\\n``."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curvae.data.errors import DataError
from curvae.data.readers import OPENERS, open_regular, read_bytes

CHUNK = 2**20
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FEW = 64
"""Letters beyond ASCII that say too little of the alphabet they are of: then they are taken for Western ones."""


@dataclass(frozen=True)
class Utf8:
    """A text file as UTF-8: itself where it is, else its content anew."""

    path: Path
    encoding: str
    content: bytes | None
    start: int
    """Where its first letter is, after the mark of its encoding."""
    delimiter: str | None = None
    """Between cells, where it is known."""

    def open(self) -> io.BytesIO | io.BufferedReader:
        """Its bytes, from the first letter."""
        if self.content is not None:
            return io.BytesIO(self.content)
        file = open_regular(self.path)
        file.seek(self.start)
        return file

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content) if self.content is not None else self.path.stat().st_size - self.start


def as_utf8(path: Path, most: int | None = None) -> Utf8:
    """A text file, plain or compressed, in whatever encoding.

    Args:
        path: the file.
        most: bytes of a plain file after which it is taken for UTF-8; whoever reads on has to look. None = all.

    Raises:
        DataError: it is missing, broken, or no text.
    """
    if path.suffix not in OPENERS and _is_utf8(path, most):
        with open_regular(path) as file:
            marked = file.read(3) == codecs.BOM_UTF8
        return Utf8(path, "utf-8-sig" if marked else "utf-8", None, 3 if marked else 0)
    content = read_bytes(path)
    encoding = _encoding(path, content)
    try:
        text = content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise _no_text(path) from None
    if "\0" in text:
        raise _no_text(path)
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    return Utf8(path, encoding, text.encode("utf-8", "replace"), 0)


def _no_text(path: Path) -> DataError:
    return DataError(f"{path}: expected text, got other bytes; save it as UTF-8.")


def _is_utf8(path: Path, most: int | None) -> bool:
    """Whether a file, or its first bytes, is UTF-8 that ends its lines by ``\\n``."""
    decoder, lines, returns = codecs.getincrementaldecoder("utf-8")(), False, False
    with open_regular(path) as file:
        for chunk in _chunks(file, most):
            lines, returns = lines or b"\n" in chunk, returns or b"\r" in chunk
            if b"\0" in chunk or (returns and not lines):
                return False
            if chunk.isascii() and not decoder.getstate()[0]:
                continue
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                return False
    return most is not None or not decoder.getstate()[0]


def _chunks(file: io.BufferedReader, most: int | None) -> Iterator[bytes]:
    while (chunk := file.read(CHUNK)) and (most is None or file.tell() <= most + CHUNK):
        yield chunk


def _encoding(path: Path, content: bytes) -> str:
    for mark, name in BOMS:
        if content.startswith(mark):
            return name
    if (wide := _wide(content[:4096])) is not None:
        return wide
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(path, content)
    return "utf-8"


def _wide(head: bytes) -> str | None:
    """UTF-16 without its mark: every second byte of ASCII letters is 0."""
    half = len(head) // 2
    if half and head[1::2].count(0) > 0.7 * half and head[::2].count(0) == 0:
        return "utf-16-le"
    if half and head[::2].count(0) > 0.7 * half and head[1::2].count(0) == 0:
        return "utf-16-be"
    return None


def _guessed(path: Path, content: bytes) -> str:
    """Eight-bit letters: Western ones where there are few, else as charset-normalizer finds."""
    from charset_normalizer import from_bytes

    if content.count(0) or sum(content.count(byte) for byte in CONTROLS):
        raise _no_text(path)
    special = [line for line in content.splitlines() if not line.isascii()]
    letters = b"\n".join(special)[: 2**16]
    if sum(byte > 127 for byte in letters) < FEW:
        return "latin-1" if any(byte in letters for byte in UNUSED) else "cp1252"
    best = from_bytes(letters).best()
    return "cp1252" if best is None else best.encoding


CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1a\x1b\v"))
"""Bytes that no text has."""
UNUSED = b"\x81\x8d\x8f\x90\x9d"
"""Bytes that are no letters in cp1252."""
