"""Parquet and Feather files, by pyarrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curvae.data.dialect import Decision
from curvae.data.formats.file_content import NONE, Found, Hints
from curvae.data.formats.opening import imported, parsed, require_room
from curvae.data.readers import OPENERS
from curvae.io.reading import Reading


def read_parquet(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """The table of a Parquet file, of which columns are read as they are asked for.

    Raises:
        DataError: a broken file, or pyarrow is not there.
    """
    parquet = imported(path, "pyarrow.parquet", "parquet")
    with parsed(path, "a Parquet file") as file, parquet.ParquetFile(file) as opened:
        found = _without_index(opened.schema_arrow.empty_table())
        counts = [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]
    return found._replace(x=ParquetTable(path, found.x, counts))


class ParquetTable:
    """A Parquet file.

    Args:
        path: of the file.
        empty: a table of its columns, without rows.
        counts: rows of each of its row groups.
    """

    def __init__(self, path: Path, empty: Any, counts: Sequence[int]):
        self.path = path
        self.empty = empty
        self.counts = counts

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def read(self, places: Sequence[int], groups: Sequence[int] | None = None) -> Any:
        """Some columns, of all row groups or some of them, as a table of Arrow.

        Raises:
            DataError: a broken file, or no room for them.
        """
        names = self.empty.column_names
        chosen = [names[place] for place in places]
        groups = range(len(self.counts)) if groups is None else groups
        require_room(self.path, sum(self.counts[group] for group in groups) * len(chosen))
        parquet = imported(self.path, "pyarrow.parquet", "parquet")
        with parsed(self.path, "a Parquet file") as file, parquet.ParquetFile(_direct(self.path, file)) as opened:
            if len(set(names)) == len(names):
                return opened.read_row_groups(groups, columns=chosen).select(chosen)
            table = opened.read_row_groups(groups)  # names that come twice cannot be asked for
            return table.select([at for at, name in enumerate(table.column_names) if name in names]).select(
                list(places)
            )


def _direct(path: Path, file: Any) -> Any:
    """What pyarrow reads without a call of Python for each part: the path of a file that is not compressed."""
    return file if path.suffix in OPENERS else str(path)


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
