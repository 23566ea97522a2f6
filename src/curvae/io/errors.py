"""The one error of this package, and the one place that turns what parsers raise into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileError(ValueError):
    """A file that cannot be read: one line saying which, what was expected and what came."""


@contextmanager
def parsing(path: Path, expected: str, *documented: type[Exception]) -> Iterator[None]:
    """Any failure of a parser as a FileError, but for documented ones: at damaged bytes libraries raise what they like.

    Example:
        >>> with parsing(Path("a.json"), "JSON"):
        ...     int("x")
        Traceback (most recent call last):
        curvae.io.errors.FileError: a.json: expected JSON, got invalid literal for int() with base 10: 'x'
    """
    try:
        yield
    except (FileError, *documented):
        raise
    except Exception as error:
        raise FileError(f"{path}: expected {expected}, got {reason(error)}") from None


def reason(error: BaseException) -> str:
    """What an error says, in one short line."""
    told = getattr(error, "strerror", None) or str(error) or "a damaged file"
    line = " ".join("".join(c if c.isprintable() else " " for c in str(told)[:2000]).split())
    return line if len(line) <= 160 else line[:157] + "..."
