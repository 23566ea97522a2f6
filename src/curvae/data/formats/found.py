"""What a file holds, before anything of it is taken for a feature."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from curvae.data.dialect import Decision, Dialect


class Hints(NamedTuple):
    """What is known of a file before it is looked at, from a run or a first file like it."""

    label: str | None = None
    """Key or name of labels that may be there."""
    dialect: Dialect | None = None
    """How a text file like it was read."""
    names: Sequence[str] = ()
    """Columns that are expected."""


NONE = Hints()


class NamedMatrix(NamedTuple):
    """Numbers ``(N, P)``, dense or sparse, whose columns have names."""

    matrix: Any
    names: Sequence[str]


class Found(NamedTuple):
    """A table of named columns or an array, labels where they stand beside it, and what was decided of the file."""

    x: Any
    """A text table, a frame, records, a :class:`NamedMatrix`, a sparse matrix or an array."""
    labels: NDArray[Any] | None = None
    decisions: tuple[Decision, ...] = ()
