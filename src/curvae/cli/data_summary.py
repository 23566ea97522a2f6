"""``curvae data``: what is in a file, what was decided of it, and how to change it."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curvae.cli.flags import Source
from curvae.cli.output import show
from curvae.cli.parsing import command, in_flags
from curvae.cli.resolve import DATA_FLAGS
from curvae.io.reading import CONTEXT, Reading

if TYPE_CHECKING:
    from curvae.data import Decision
    from curvae.data.tables.summary import TableSummary

MOST = 200
"""Columns that are listed."""


@command(
    "FILE [flags]",
    "curvae data stars.csv",
    "curvae data stars.csv --drop id --missing-value -999 --kind n=count",
    reading=Source("how it is read", Reading, skip=frozenset({"data_dir", "sequence", *CONTEXT})),
)
def data(file: Path, *, reading: Reading) -> None:
    """What is in a file: columns with kinds, ranges and missing values; what was decided of it; what to mend.

    The same flags change how curvae fit reads it.

    Args:
        file: text, Parquet, Excel, .npy, .npz, .h5ad, .mtx, FITS, .mat, plain or compressed, or a folder of pictures
    """
    from curvae.data import DataAdvice
    from curvae.data.tables.summary import summarized

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataAdvice)
        found = summarized(file, reading)
    title = f"{file}: {found.rows:,} rows, {len(found.columns):,} columns"
    header = ["column", "kind", "type", "least", "most", "missing"]
    show(title, header, [each.row() for each in found.columns[:MOST]])
    if len(found.columns) > MOST:
        print(f"... and {len(found.columns) - MOST:,} columns more")
    if found.decisions:
        show("decided (and how to change it)", ["", "", ""], list(_told(found.decisions)))
    for kind, lines in (("note", found.proposals), ("trouble", found.troubles)):
        for line in lines:
            print(f"{kind}: {in_flags(line, DATA_FLAGS)}")
    print(f"{_counted(found)}curvae fit vlae {file}{_flags(reading)}")


def _told(decisions: "Sequence[Decision]") -> Iterator[tuple[str, str, str]]:
    for each in decisions:
        yield each.what, each.found, in_flags(each.change, DATA_FLAGS)


def _counted(found: "TableSummary") -> str:
    count = len(found.troubles)
    return f"mend the {'trouble' if count == 1 else f'{count} troubles'}, then: " if count else "next: "


def _flags(reading: Reading) -> str:
    """What was said, as flags again."""
    said = {name: value for name, value in reading.recipe().items() if value is not None}
    return "".join(" " + in_flags(f"{name}={value!r}", [name]) for name, value in said.items())
