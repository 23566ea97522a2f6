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
        columns: the features by their names in the file, in the model's order.
        positions: the features by their place instead, from 0, or from the end if negative.
        drop: columns to leave out, by name.
        label: the column with the labels, by name or by place; of a .npz a key.
        key: which array of a .npz or .mat, sheet, table or layer; the only or first one.
        header: whether a text file starts with names.
        row_names: the column that names the rows, which is no feature.
        transpose: rows of the file are columns of the table.
        decimal: what stands before decimals in a text file.
        missing_value: what stands for none beside empty cells, ? and NA; -999, say.
        kind: what columns are, n=count: real, positive, count, binary, category, label, ignored.
        errors: columns of known errors, u=u_err,g=g_err: standard deviations of the features u and g.
        exposure: the column that counts are in proportion to, library size, say; or total, the sum of each row.
        weights: the column that says how often a row counts.
        covariates: columns that encoder and decoder are given, and that are not modelled: batch, class.
        sequence: the column that says which sequence a row belongs to, where rows are steps, in order.
        missing: mask leaves missing values out, error refuses them.
        data_dir: the folder in which the files of a run or a known set are now.

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
    errors: Sequence[str] | Mapping[str, str] | None = None
    exposure: str | None = None
    weights: str | None = None
    covariates: Sequence[Name] | None = None
    sequence: str | None = None
    missing: str | None = None
    data_dir: Path | None = None

    @property
    def features(self) -> bool:
        """Whether it says which the features are."""
        return self.columns is not None or self.positions is not None

    @property
    def kinds(self) -> dict[str, str]:
        """Kinds of columns, by name."""
        return _pairs(self.kind)

    @property
    def errors_of(self) -> dict[str, str]:
        """The columns of known errors, by feature."""
        return _pairs(self.errors)

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of the columns that are known of each row and not modelled.

        >>> Reading(errors={"u": "u_err"}, exposure="size", covariates=["night"]).beside
        ('u_err', 'size', 'night')
        """
        single = [each for each in (self.exposure, self.weights) if each is not None]
        return tuple(map(str, (*self.errors_of.values(), *single, *(self.covariates or ()))))

    @property
    def markers(self) -> tuple[str, ...]:
        """What stands for a missing value, as text."""
        given = self.missing_value
        each = [given] if isinstance(given, str | int | float) else given or ()
        return tuple(f"{value:g}" if isinstance(value, float) else str(value).strip() for value in each)

    def recipe(self) -> dict[str, Any]:
        """What was said, as JSON has it."""
        lists = ("columns", "positions", "drop", "missing_value", "covariates")
        said = {name: getattr(self, name) for name in READ_FROM_FILES}
        said |= {name: list(said[name]) for name in lists if isinstance(said[name], Sequence)}
        for name, pairs in (("kind", self.kinds), ("errors", self.errors_of)):
            if getattr(self, name) is not None:
                said[name] = [f"{first}={second}" for first, second in pairs.items()]
        always = ("columns", "positions", "label", "key", "header")
        return {name: value for name, value in said.items() if name in always or value is not None}


def _pairs(said: Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """``["n=count"]``, or a mapping, as one of text."""
    if isinstance(said, Mapping):
        return {str(name): str(value) for name, value in said.items()}
    parts = (each.rpartition("=") for each in said or ())
    return {name.strip(): value.strip() for name, _, value in parts}


READ_FROM_FILES = (
    "columns", "positions", "drop", "label", "key", "header", "row_names", "transpose", "decimal", "missing_value",
    "kind", "errors", "exposure", "weights", "covariates", "sequence",
)  # fmt: skip
"""What a recipe of data says of how a file was read; the rest is said elsewhere in it."""

CONTEXT = ("errors", "exposure", "weights", "covariates")
"""What is known of rows and not modelled: said when a model is trained, and found by name from then on."""
