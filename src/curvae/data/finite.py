"""Values that are finite as given and not for a model, which computes in float32."""

from collections.abc import Sequence

import torch
from torch import Tensor

from curvae.data.errors import DataError
from curvae.data.transforms import Transform

ROWS = 4096
"""That are transformed at a time."""


def check_finite(what: str, y: Tensor, columns: Sequence[str] | None = None, first: int = 0) -> None:
    """Refuse values that are not finite once they are transformed, by row and column.

    Args:
        what: of the data.
        y: rows in model space, 0 where not observed.
        columns: names of the features.
        first: number of the first row.

    Raises:
        DataError: a value is not finite.

    Example:
        >>> check_finite("x", torch.tensor([[0.0, 1.0], [2.0, torch.inf]]), ["u", "g"], first=10)
        Traceback (most recent call last):
        curvae.data.errors.DataError: x: expected values that float32 can hold once they are transformed, got 1 that ...
    """
    bad = y.isfinite().logical_not_()
    if bad.any():
        row, *place = bad.nonzero()[0].tolist()
        named = tuple(place) if len(place) != 1 else repr(columns[place[0]]) if columns else place[0]
        raise DataError(
            f"{what}: expected values that float32 can hold once they are transformed, got {int(bad.sum())} that it "
            f"cannot, the first in row {first + row}, column {named}; drop or mend these rows, or rescale the column."
        )


def check_range(what: str, raw: Tensor, mask: Tensor | None, columns: Sequence[str] | None) -> None:
    """Refuse observed values beyond float32, before anything is fitted to them.

    Raises:
        DataError: there is one.
    """
    if raw.dtype == torch.float64:
        seen = raw if mask is None else torch.where(mask, raw, 0)
        check_finite(what, torch.where(seen.abs() > torch.finfo(torch.float32).max, torch.inf, 0.0), columns)


def check_transformed(
    what: str, raw: Tensor, transform: Transform, mask: Tensor | None, columns: Sequence[str] | None
) -> None:
    """Refuse rows that the transform takes beyond float32.

    Raises:
        DataError: there is one.
    """
    for first in range(0, len(raw), ROWS):
        part = slice(first, first + ROWS)
        y = transform(raw[part], torch.Generator(raw.device).manual_seed(0) if transform.random else None)
        check_finite(what, y if mask is None else torch.where(mask[part], y, 0), columns, first)
