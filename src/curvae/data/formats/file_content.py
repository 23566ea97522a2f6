"""What a file holds, before anything of it is taken for a feature."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.data.dialect import Decision, Dialect
from curvae.data.errors import DataError
from curvae.typing import EMPTY


class Hints(NamedTuple):
    """What is known of a file before it is looked at, from a run or a first file like it."""

    label: str | None = None
    """Key or name of labels that may be there."""
    dialect: Dialect | None = None
    """How a text file like it was read."""
    names: Sequence[str] = ()
    """Columns that are expected."""
    beside: Sequence[str] = ()
    """Columns that are no features and are wanted, too, wherever the file has them."""


NONE = Hints()


class NamedMatrix(NamedTuple):
    """Numbers ``(N, P)``, dense or sparse, whose columns have names."""

    matrix: Any
    names: Sequence[str] | None


class Joined(NamedTuple):
    """Values ``(N, P)``, and further columns that stand beside them: in ``obs`` of AnnData, under keys of their own."""

    values: Any
    """A :class:`NamedMatrix`, a sparse matrix or an array."""
    beside: Any
    """A frame; none of its columns is a feature."""


class Found(NamedTuple):
    """A table of named columns or an array, labels where they stand beside it, and what was decided of the file."""

    x: Any
    """A text table, a frame, records, a :class:`NamedMatrix`, a sparse matrix, an array, or one :class:`Joined`."""
    labels: NDArray[Any] | None = None
    decisions: tuple[Decision, ...] = ()
    beside: Mapping[str, Any] = EMPTY
    """Columns that are wanted and stand beside x, one value a row each."""


def with_columns_beside(what: str, x: Any, beside: Mapping[str, Any]) -> Any:
    """Values with the columns that are wanted beside them, if there are any.

    Raises:
        DataError: values that are no table, or a column that is none, or of another length.

    >>> with_columns_beside("x", np.zeros((2, 3)), {"size": [[1.0], [2.0]]}).beside["size"].tolist()
    [1.0, 2.0]
    """
    if not beside:
        return x
    import pandas

    shape = x.matrix.shape if isinstance(x, NamedMatrix) else x.shape
    if len(shape) != 2:
        raise DataError(f"{what}: expected a table (N, F) beside {', '.join(beside)}, got shape {tuple(shape)}.")
    flat = {name: np.asarray(values) for name, values in beside.items()}
    for name, values in flat.items():
        if values.shape not in ((shape[0],), (shape[0], 1), (1, shape[0])):
            raise DataError(f"{what}: expected {shape[0]} values in {name!r}, one a row, got shape {values.shape}.")
    return Joined(x, pandas.DataFrame({name: values.reshape(-1) for name, values in flat.items()}))
