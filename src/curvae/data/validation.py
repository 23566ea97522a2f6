"""What users hand over, to tensors: kinds of numbers, layouts of images, missing values, what float32 can hold."""

import sys
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.errors import DataError
from curvae.data.stored import Raw, StoredRows
from curvae.data.transforms.base import ROWS, Transform
from curvae.memory import blocks

CHANNELS = (1, 3, 4)
MEND = {
    "c": "pass real and imaginary parts as columns",
    "M": "pass them as numbers, days or seconds since a date",
    "m": "pass them as numbers, of days or of seconds",
    "U": "leave them out, pass them as labels, or code them as numbers",
    "S": "leave them out, pass them as labels, or code them as numbers",
}
SPOKEN = {"c": "complex numbers", "M": "dates", "m": "durations", "U": "text", "S": "text", "V": "records"}


def numeric(what: str, x: Any) -> NDArray[Any]:
    """``x`` as an array of real numbers in NumPy's own byte order, float64 where it is wider or a list of objects.

    Missing objects (None, pandas' NA) become NaN.

    Raises:
        DataError: anything else than real numbers.
    """
    if (sparse := sys.modules.get("scipy.sparse")) is not None and sparse.issparse(x):
        raise DataError(f"{what}: expected an array, got a sparse matrix; pass x.toarray().")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what}: expected rows of equal shape, got {_first_line(error)}.") from None
    if array.dtype.kind == "O":
        return _objects(what, array)
    if array.dtype.kind not in "biuf":
        got = SPOKEN.get(array.dtype.kind, f"{type(x).__name__} of dtype {array.dtype}")
        mend = MEND.get(array.dtype.kind, "convert it to floats or codes first")
        raise DataError(f"{what}: expected real numbers, got {got}; {mend}.")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _objects(what: str, array: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers held as Python objects."""
    found = np.empty(array.shape)
    for place, value in np.ndenumerate(array):
        if is_missing_value(value):
            found[place] = np.nan
        elif isinstance(value, Real | Decimal | np.bool_):
            found[place] = _float(value)
        else:
            where = f" in row {place[0]}" if place else ""
            got = f"{type(value).__name__} {str(value)[:40]!r}{where}"
            raise DataError(f"{what}: expected real numbers, got {got}; {MEND['U']}.")
    return found


def is_missing_value(value: Any) -> bool:
    """Whether a single value stands for none: None, NaN, or pandas' NA and NaT."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, Real) and value != value)
    )


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def to_tensor(what: str, x: Any, copy: bool = True) -> Tensor:
    """``x`` as a tensor: bytes, bits and floats as they are, wider integers as float64, halves as float32.

    Args:
        what: how messages name it.
        x: an array, a tensor, or what NumPy makes one of.
        copy: of what is a tensor or such an array already.
    """
    if isinstance(x, Tensor):
        tensor = _own(what, x, copy)
    else:
        array = numeric(what, x.data if np.ma.isMaskedArray(x) else x)
        wide = array.dtype.kind in "iu" and array.dtype != np.uint8
        make = np.array if copy or not array.flags.writeable else np.asarray
        tensor = torch.from_numpy(make(array, dtype=np.float64 if wide else array.dtype))
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    whole = not tensor.is_floating_point() and tensor.dtype not in (torch.uint8, torch.bool)
    return tensor.double() if whole else tensor


def _own(what: str, x: Tensor, copy: bool) -> Tensor:
    if x.is_complex():
        raise DataError(f"{what}: expected real numbers, got {x.dtype}; {MEND['c']}.")
    if x.layout != torch.strided or x.is_quantized or x.is_meta:
        raise DataError(f"{what}: expected a dense tensor of numbers, got {_layout(x)}; pass x.to_dense().")
    return x.detach().clone() if copy else x.detach()


def _layout(x: Tensor) -> str:
    return "a meta tensor" if x.is_meta else "a quantized one" if x.is_quantized else str(x.layout)


def observed_in_masked_array(x: Any) -> NDArray[np.bool_] | None:
    """Where a masked array of NumPy has values, True = observed; None for all else, or where nothing is masked."""
    hidden = np.ma.getmaskarray(x) if np.ma.isMaskedArray(x) else None
    return None if hidden is None or not hidden.any() else ~hidden


def to_event(what: str, x: Tensor, event: Sequence[int] | None) -> Tensor:
    """Rows of tables ``(N, F)``, or images with their channels first ``(N, C, H, W)``, unless ``event`` says so."""
    if x.ndim == 0 or len(x) == 0:
        raise DataError(f"{what}: expected rows of data, got shape {tuple(x.shape)}; pass at least one row.")
    if x[0].numel() == 0:
        raise DataError(f"{what}: expected at least one feature, got shape {tuple(x.shape)}.")
    if event is not None:
        if int(np.prod(event)) != x[0].numel():
            raise DataError(f"event: expected {x[0].numel()} elements a row as in {what}, got {tuple(event)}.")
        return x.reshape(len(x), *event)
    if x.ndim == 1:
        mend = "for one row pass x[None], for one feature x[:, None]"
        raise DataError(f"{what}: expected (N, features) or images, got one dimension, {tuple(x.shape)}; {mend}.")
    if x.ndim == 2:
        return x
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[-1] in CHANNELS:
        return x.movedim(-1, 1).contiguous()
    if x.ndim == 4 and x.shape[1] in CHANNELS:
        return x
    raise DataError(f"{what}: expected (N, F), (N, H, W) or (N, H, W, C), got {tuple(x.shape)}; say event=(...).")


def observed_mask(
    what: str, x: Tensor, mask: Tensor | None, missing: str, columns: Sequence[str] | None, first: int = 0
) -> Tensor | None:
    """The mask of ``x``, with NaN left out of it if ``missing`` is ``"mask"``; ``first`` is its first row's number.

    Raises:
        DataError: an observed value is NaN or infinite.
    """
    if missing not in ("error", "mask"):
        raise DataError(f"missing: expected 'error' or 'mask', got {missing!r}.")
    if mask is not None and mask.shape != x.shape:
        raise DataError(f"{what}: expected a mask of shape {tuple(x.shape)}, got {tuple(mask.shape)}.")
    if missing == "mask" and not _all_finite(x) and x.isnan().any():
        mask = ~x.isnan() if mask is None else mask.bool() & ~x.isnan()
    if not _all_finite(x):
        bad = ~x.isfinite() if mask is None else ~x.isfinite() & mask.bool()
        if bad.any():
            _refuse(what, x, bad, columns, first)
    return None if mask is None else mask.bool()


def check_stored(what: str, x: StoredRows, missing: str, columns: Sequence[str] | None) -> bool:
    """The same of rows that stay in their file: whether values are missing, and may be.

    Raises:
        DataError: an observed value is NaN or infinite; the first block of rows that has one is told of.
    """
    holes = False
    for number, part in enumerate(x.split(ROWS)):
        holes |= observed_mask(what, part, None, missing, columns, number * ROWS) is not None
    return holes


def _refuse(what: str, x: Tensor, bad: Tensor, columns: Sequence[str] | None, first: int) -> None:
    row, column = locate_first(bad, columns)
    missing = bool((x.isnan() & bad).any())
    among = f" in rows {first} to {first + len(x) - 1}" if first else ""
    got = f"{int(bad.sum())} {'NaN' if missing else 'infinite'}{among}, the first in row {first + row}, column {column}"
    mend = "pass missing='mask' to leave them out" if missing else "drop or mend these rows"
    raise DataError(f"{what}: expected finite values where observed, got {got}; {mend}.")


def locate_first(bad: Tensor, columns: Sequence[str] | None) -> tuple[int, str]:
    """The first row in which something is bad, and the column in words: its name, its number or its place."""
    row, *place = bad.nonzero()[0].tolist()
    return row, repr(tuple(place) if len(place) != 1 else columns[place[0]] if columns else place[0])


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
    if _all_finite(y):
        return
    bad = y.isfinite().logical_not_()
    if bad.any():
        row, column = locate_first(bad, columns)
        raise DataError(
            f"{what}: expected values that float32 can hold once they are transformed, got {int(bad.sum())} that it "
            f"cannot, the first in row {first + row}, column {column}; drop or mend these rows, or rescale the column."
        )


def _all_finite(x: Tensor) -> bool:
    """Whether a sum says so: quick, and of what it says nothing of each value is looked at."""
    return bool((x.sum() if x.is_floating_point() else x.sum(dtype=torch.float64)).isfinite())


def check_range(what: str, raw: Raw, mask: Raw | None, columns: Sequence[str] | None) -> None:
    """Refuse observed values beyond float32, before anything is fitted to them.

    Raises:
        DataError: there is one.
    """
    if raw.dtype != torch.float64:
        return
    most = torch.finfo(torch.float32).max
    for number, (part, seen) in enumerate(blocks(raw, mask, ROWS)):
        x = part if seen is None else torch.where(seen, part, 0)
        if not _all_finite(x.float()):
            check_finite(what, torch.where(x.abs() > most, torch.inf, 0.0), columns, number * ROWS)


def check_transformed(
    what: str, raw: Raw, transform: Transform, mask: Raw | None, columns: Sequence[str] | None
) -> None:
    """Refuse rows that the transform takes beyond float32.

    Raises:
        DataError: there is one.
    """
    for number, (part, seen) in enumerate(blocks(raw, mask, ROWS)):
        y = transform(part, torch.Generator(raw.device).manual_seed(0) if transform.random else None)
        check_finite(what, y if seen is None else torch.where(seen, y, 0), columns, number * ROWS)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
