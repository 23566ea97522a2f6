"""What a command leaves: tables on the terminal, and files, new and whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curvae.cli.errors import CommandError
from curvae.io import atomic


@contextmanager
def fresh(path: Path | None, force: bool = False) -> Iterator[Path | None]:
    """A file beside ``path`` to write into, put in its place at the end; nothing is left of it after an error.

    A link at ``path`` is replaced by the file, what it leads to stays as it is.

    Raises:
        CommandError: something is there already and ``force`` is not given, there is no such folder, or in the place is
            something other than a file.
    """
    if path is None:
        yield None
        return
    if path.is_dir() or (os.path.lexists(path) and not force):
        raise CommandError(f"{path}: expected nothing there, got an existing file; --force writes over it.")
    if not path.parent.is_dir():
        raise CommandError(f"{path}: expected an existing folder, got {path.parent}, which is none; make it first.")
    atomic.remove_stale(path.parent)
    with atomic.replacing(path) as beside:
        yield beside


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> None:
    """Print a table to stdout, as wide as the terminal or 110 characters where there is none.

    Args:
        title: above it; none if empty.
        header: names of the columns; no header line where all are empty.
        rows: cells in text.
        numbers: align all columns but the first to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", show_header=any(header), pad_edge=False
    )
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and i else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def write_values(target: Path | None, values: Mapping[str, Any]) -> None:
    """Values into a file that was asked for, one a line."""
    if target is not None:
        target.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings, or that there are none."""
    print("\n".join(f"warning: {line}" for line in lines) or "No warnings.")
