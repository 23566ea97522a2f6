"""Parquet and Feather files, by pyarrow."""

from pathlib import Path
from typing import Any

from curvae.data.dialect import Decision
from curvae.data.formats.found import NONE, Found, Hints
from curvae.data.formats.opening import imported, parsed, require_room
from curvae.io.reading import Reading


def read_parquet(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """The table of a Parquet file.

    Raises:
        DataError: a broken file, no room for it, or pyarrow is not there.
    """
    parquet = imported(path, "pyarrow.parquet", "parquet")
    with parsed(path, "a Parquet file") as file, parquet.ParquetFile(file) as opened:
        require_room(path, opened.metadata.num_rows * opened.metadata.num_columns)
        return _without_index(opened.read())


def read_feather(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """The table of a Feather or Arrow file, or of a stream of Arrow's in a file.

    Raises:
        DataError: a broken file, or pyarrow is not there.
    """
    feather, arrow = imported(path, "pyarrow.feather", "parquet"), imported(path, "pyarrow", "parquet")
    with parsed(path, "a Feather or Arrow file") as file:
        head = file.read(6)
        file.seek(0)
        if head[:4] in (b"FEA1", b"ARRO"):
            return _without_index(feather.read_table(file))
        with arrow.ipc.open_stream(file) as stream:
            return _without_index(stream.read_all())


def _without_index(table: Any) -> Found:
    """Without the columns that pandas names rows by."""
    known = table.schema.pandas_metadata or {}
    index = [name for name in known.get("index_columns", ()) if isinstance(name, str) and name in table.column_names]
    if not index:
        return Found(table)
    called = ", ".join("an index without name" if name.startswith("__index_level_") else repr(name) for name in index)
    change = "reset_index() in pandas makes it a column"
    return Found(table.drop_columns(index), None, (Decision("row names", called, change),))
