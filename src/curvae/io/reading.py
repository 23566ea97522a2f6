"""How a table is to be read, as the user says it: plain words and numbers, the same in Python and as flags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Name = str | int | tuple[Any, ...]
"""Of a column; of several levels a tuple, as pandas has them."""


@dataclass(frozen=True)
class Reading:
    """How a table is read; what is None is found out from the table, or is as in the run whose rows are read.

    Args:
        columns: the features by name, in the order in which the model sees them; by default all but the label. Of new
            rows of a run: their names of the run's features. Columns without names are called by their numbers.
        positions: the features by their place instead, counted from 0, or from the end if negative.
        drop: columns to leave out, by name.
        label: the column with the labels, numbers or words, by name; a number that is no name counts columns, from the
            end if negative. In a ``.npz`` a key.
        key: which array of a ``.npz``; by default its only one, or ``x``.
        header: whether a text file starts with names.
        row_names: the column that names the rows, by name; it is no feature.
        transpose: rows of the file are columns of the table.
        decimal: what stands before decimals in a text file, a point or a comma.
        missing_value: what stands for a missing value beside empty cells, ``?``, ``NA`` and the like, as ``-999``.
        kind: of columns, as ``n=count``: real, positive, count, binary, category, label or ignored.
        missing: ``"mask"`` turns what is missing into a mask, ``"error"`` refuses it.
        data_dir: of a run, the folder in which its files are now.

    >>> Reading(kind=["n=count", "sex = category"]).kinds
    {'n': 'count', 'sex': 'category'}
    """

    columns: Sequence[Name] | None = None
    positions: Sequence[int] | None = None
    drop: Sequence[Name] | None = None
    label: str | int | None = None
    key: str | None = None
    header: bool | None = None
    row_names: str | int | None = None
    transpose: bool | None = None
    decimal: Literal[".", ","] | None = None
    missing_value: Sequence[str | float] | None = None
    kind: Sequence[str] | Mapping[str, str] | None = None
    missing: str | None = None
    data_dir: Path | None = None

    @property
    def features(self) -> bool:
        """Whether it says which the features are."""
        return self.columns is not None or self.positions is not None

    @property
    def kinds(self) -> dict[str, str]:
        """Kinds of columns, by name."""
        if isinstance(self.kind, Mapping):
            return {str(name): str(kind) for name, kind in self.kind.items()}
        parts = (each.rpartition("=") for each in self.kind or ())
        return {name.strip(): kind.strip() for name, _, kind in parts}

    @property
    def markers(self) -> tuple[str, ...]:
        """What stands for a missing value, as text."""
        given = self.missing_value
        each = [given] if isinstance(given, str | int | float) else given or ()
        return tuple(f"{value:g}" if isinstance(value, float) else str(value).strip() for value in each)

    def recipe(self) -> dict[str, Any]:
        """What was said, as JSON has it."""
        lists = ("columns", "positions", "drop", "missing_value")
        said = {name: getattr(self, name) for name in READ_FROM_FILES}
        said |= {name: list(said[name]) for name in lists if isinstance(said[name], Sequence)}
        if self.kind is not None:
            said["kind"] = [f"{name}={kind}" for name, kind in self.kinds.items()]
        always = ("columns", "positions", "label", "key", "header")
        return {name: value for name, value in said.items() if name in always or value is not None}


READ_FROM_FILES = (
    "columns", "positions", "drop", "label", "key", "header", "row_names", "transpose", "decimal", "missing_value",
    "kind",
)  # fmt: skip
"""What a recipe of data says of how a file was read; the rest is said elsewhere in it."""
