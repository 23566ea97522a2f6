"""Files that a command writes for the user: new, and whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curvae.cli.failures import Refused


@contextmanager
def fresh(path: Path | None, force: bool = False) -> Iterator[Path | None]:
    """A file beside ``path`` to write into, put in its place at the end; nothing is left of it after an error.

    Raises:
        Refused: something is there already and ``force`` is not given, or there is no such folder.
    """
    if path is None:
        yield None
        return
    if path.is_dir() or (path.exists() and not force):
        raise Refused(f"{path}: expected nothing there, got an existing file; --force writes over it.")
    if not path.parent.is_dir():
        raise Refused(f"{path}: expected an existing folder, got {path.parent}, which is none; make it first.")
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
