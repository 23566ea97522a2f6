"""Files that a command writes for the user: new, and whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curvae.cli.failures import Refused
from curvae.io import atomic


@contextmanager
def fresh(path: Path | None, force: bool = False) -> Iterator[Path | None]:
    """A file beside ``path`` to write into, put in its place at the end; nothing is left of it after an error.

    A link at ``path`` is replaced by the file, what it leads to stays as it is.

    Raises:
        Refused: something is there already and ``force`` is not given, there is no such folder, or in the place is
            something other than a file.
    """
    if path is None:
        yield None
        return
    if path.is_dir() or (os.path.lexists(path) and not force):
        raise Refused(f"{path}: expected nothing there, got an existing file; --force writes over it.")
    if not path.parent.is_dir():
        raise Refused(f"{path}: expected an existing folder, got {path.parent}, which is none; make it first.")
    atomic.sweep(path.parent)
    with atomic.replacing(path) as beside:
        yield beside
