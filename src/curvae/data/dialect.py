"""What was found out of a text table and is needed to read another one like it; and what was decided, in words."""

from dataclasses import dataclass
from typing import Annotated, Literal

from curvae.io.typed import Range

NAMED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", ":": "colons", " ": "spaces", "": "one column"}


@dataclass(frozen=True)
class Dialect:
    """How a text table was read.

    Args:
        delimiter: between cells; a space stands for any number of spaces and tabs, nothing for a single column.
        quote: around cells that hold the delimiter; nothing where quotes mean themselves.
        decimal: what stands before decimals.
        header: rows of names; 0 = none, -1 = in a comment above the first row.
        units: whether a row of units follows the names.
        row_names: the column that names the rows; None = none.
        transpose: whether rows of the file are columns of the table.
        missing: cells that stand for a missing value beside the usual ones, as they were declared.
    """

    delimiter: str = ","
    quote: str = '"'
    decimal: Literal[".", ","] = "."
    header: Annotated[int, Range(-1, 2**31)] = 1
    units: bool = False
    row_names: str | None = None
    transpose: bool = False
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What was decided of a table, and how it is changed."""

    what: str
    found: str
    change: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.found}" + (f" ({self.change})" if self.change else "")
