"""What users hand over, to tensors: arrays, frames, layouts of images, labels, missing values."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvae.data.errors import DataError

CHANNELS = (1, 3, 4)


def is_frame(x: Any) -> bool:
    """Whether ``x`` is a pandas frame; pandas is looked at only if the caller has imported it."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(x, pandas.DataFrame)


def from_frame(frame: Any, label: Any, columns: Sequence[Any] | None) -> tuple[np.ndarray, Any, list[str]]:
    """The numbers of a pandas frame, its label column if ``label`` names one, and the names of the columns."""
    wanted = list(frame.columns) if columns is None else list(columns)
    for column in [*wanted, *([label] if isinstance(label, str) else [])]:
        if column not in frame.columns:
            raise DataError(f"columns: expected names out of {list(frame.columns)}, got {column!r}.")
    labels = frame[label].to_numpy() if isinstance(label, str) else label
    kept = [column for column in wanted if not (isinstance(label, str) and column == label)]
    return np.stack([_numeric(frame[column]) for column in kept], 1), labels, [str(column) for column in kept]


def _numeric(series: Any) -> np.ndarray:
    try:
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        mend = "pass it as labels, drop it with columns=[...] or code it as numbers"
        raise DataError(f"x: expected numbers, got {series.dtype} in column {series.name!r}; {mend}.") from None


def to_tensor(what: str, x: Any) -> Tensor:
    """A copy of ``x`` as a tensor: bytes, bits and floats as they are, wider integers as float64."""
    if isinstance(x, Tensor):
        tensor = x.detach().clone()
    else:
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            got = f"{type(x).__name__} of dtype {array.dtype}"
            raise DataError(
                f"{what}: expected an array of real numbers, got {got}; convert it to floats or codes first."
            )
        wide = array.dtype.kind in "iu" and array.dtype != np.uint8
        tensor = torch.from_numpy(np.array(array, dtype=np.float64 if wide else array.dtype.newbyteorder("=")))
    if tensor.is_complex():
        raise DataError(f"{what}: expected real numbers, got {tensor.dtype}; pass real and imaginary parts as columns.")
    whole = not tensor.is_floating_point() and tensor.dtype not in (torch.uint8, torch.bool)
    return tensor.double() if whole else tensor


def to_event(what: str, x: Tensor, event: Sequence[int] | None) -> Tensor:
    """Rows of tables ``(N, F)``, or images with their channels first ``(N, C, H, W)``, unless ``event`` says so."""
    if x.ndim == 0 or len(x) == 0:
        raise DataError(f"{what}: expected rows of data, got shape {tuple(x.shape)}; pass at least one datum.")
    if event is not None:
        if int(np.prod(event)) != x[0].numel():
            raise DataError(f"event: expected {x[0].numel()} elements a datum as in {what}, got {tuple(event)}.")
        return x.reshape(len(x), *event)
    if x.ndim == 1:
        mend = "are these labels? A single feature is a table with one column, (N, 1)"
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


def to_labels(what: str, labels: Any, count: int) -> Tensor:
    """One label a datum ``(N,)``: whole numbers as int64, other numbers as float32, text as codes in its order."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    array = np.asarray(labels)
    if array.shape != (count,):
        raise DataError(f"{what}: expected shape ({count},), one a datum, got {array.shape}.")
    if array.dtype.kind not in "biuf":
        array = np.unique(array.astype(str), return_inverse=True)[1]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{what}: expected finite labels, got {int((~np.isfinite(array)).sum())} NaN or infinite.")
    whole = bool((array == np.floor(array)).all())
    return torch.from_numpy(array.astype(np.int64 if whole else np.float32))


def observed(what: str, x: Tensor, mask: Tensor | None, missing: str, columns: Sequence[str] | None) -> Tensor | None:
    """The mask of ``x``, with NaN left out of it if ``missing`` is ``"mask"``.

    Raises:
        DataError: an observed value is NaN or infinite.
    """
    if missing not in ("error", "mask"):
        raise DataError(f"missing: expected 'error' or 'mask', got {missing!r}.")
    if mask is not None and mask.shape != x.shape:
        raise DataError(f"{what}: expected a mask of shape {tuple(x.shape)}, got {tuple(mask.shape)}.")
    if missing == "mask" and x.isnan().any():
        mask = ~x.isnan() if mask is None else mask.bool() & ~x.isnan()
    bad = ~x.isfinite() if mask is None else ~x.isfinite() & mask.bool()
    if bad.any():
        _refuse(what, x, bad, columns)
    return None if mask is None else mask.bool()


def _refuse(what: str, x: Tensor, bad: Tensor, columns: Sequence[str] | None) -> None:
    row, *place = (int(i) for i in bad.nonzero()[0])
    named = repr(columns[place[0]]) if columns and len(place) == 1 else place[0] if len(place) == 1 else tuple(place)
    missing = bool((x.isnan() & bad).any())
    got = f"{int(bad.sum())} {'NaN' if missing else 'infinite'}, the first in row {row}, column {named}"
    mend = "pass missing='mask' to leave them out" if missing else "drop or mend these rows"
    raise DataError(f"{what}: expected finite values where observed, got {got}; {mend}.")
