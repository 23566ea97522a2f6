"""Labels: numbers as they are, words by a vocabulary that belongs to the run."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.errors import DataError
from curvae.data.validation import is_missing_value

UNKNOWN = -1
"""Code of a label that the run has no word for, or of none at all, in data that are evaluated."""


class Labels(NamedTuple):
    """Labels of the parts that a run was given, ``(N,)`` each, and the words that whole numbers stand for."""

    codes: list[Tensor | None]
    vocabulary: tuple[str, ...] | None


def coded(parts: Sequence[tuple[str, Any, int]]) -> Labels:
    """Labels of all parts by one vocabulary, in alphabetical order; whole numbers as int64, others as float32.

    Args:
        parts: for each what it is called, its labels or None, and how many rows it has.

    Raises:
        DataError: not one label a row, or a row without one.
    """
    arrays = [None if values is None else flat(what, values, count) for what, values, count in parts]
    for (what, _, _), array in zip(parts, arrays, strict=True):
        if array is not None and (gaps := missing(array)).any():
            got = f"{int(gaps.sum())} without one (NaN or empty), the first in row {int(gaps.argmax())}"
            raise DataError(f"{what}: expected a label in every row, got {got}; name them or drop these rows.")
    given = [array for array in arrays if array is not None]
    if all(array.dtype.kind in "biuf" for array in given):
        return Labels([None if array is None else _numbers(array) for array in arrays], None)
    vocabulary = tuple(sorted({str(word) for array in given for word in words(array)}))
    return Labels([None if array is None else lookup(words(array), vocabulary) for array in arrays], vocabulary)


def read_as(vocabulary: Sequence[str] | None, array: NDArray[Any]) -> Tensor:
    """Labels of new rows as a run codes them; :data:`UNKNOWN` where it has no code."""
    if vocabulary is not None:
        return lookup(words(array), vocabulary)
    found = np.array([_number(word) for word in words(array)])
    return _numbers(np.where(np.isfinite(found), found, UNKNOWN))


def lookup(found: NDArray[Any], vocabulary: Sequence[str]) -> Tensor:
    """Codes of words, :data:`UNKNOWN` where a word is none of the vocabulary."""
    codes = {word: code for code, word in enumerate(vocabulary)}
    return torch.tensor([codes.get(str(word), UNKNOWN) for word in found], dtype=torch.int64)


def flat(what: str, labels: Any, count: int) -> NDArray[Any]:
    """One label a row ``(N,)``, as NumPy holds them; masked ones become NaN."""
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    array = np.array(labels, dtype=object) if isinstance(labels, list | tuple) else np.asarray(labels)
    if np.ma.isMaskedArray(labels) and (hidden := np.ma.getmaskarray(labels)).any():
        array = array.astype(object)
        array[hidden] = None
    if array.shape != (count,):
        raise DataError(f"{what}: expected shape ({count},), one a row, got {array.shape}.")
    if array.dtype.kind not in "biufUSOTMm":
        raise DataError(f"{what}: expected numbers or words, got {array.dtype}.")
    if array.dtype.kind == "O" and all(isinstance(value, Real) or is_missing_value(value) for value in array):
        return np.array([np.nan if is_missing_value(value) else float(value) for value in array])
    return array


def missing(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows without a label: NaN, infinite, None, or an empty word."""
    if array.dtype.kind in "biuf":
        return ~np.isfinite(array)
    return words(array) == ""


def words(array: NDArray[Any]) -> NDArray[Any]:
    """Labels in words; whole numbers without a point, nothing where there is none.

    >>> words(np.array([2.0, 0.5, np.nan])), words(np.array(["a ", "b"]))
    (array(['2', '0.5', ''], dtype='<U3'), array(['a', 'b'], dtype='<U1'))
    """
    if array.dtype.kind in "Mm":
        return np.where(np.isnat(array), "", array.astype(np.str_))
    return np.array(["" if is_missing_value(value) else _text(value) for value in array.tolist()], dtype=np.str_)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    whole = isinstance(value, float | np.floating) and np.isfinite(value) and value == np.floor(value)
    return str(int(value)) if whole else str(value).strip()


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return {"True": 1.0, "False": 0.0}.get(word, np.nan)


def _numbers(array: NDArray[Any]) -> Tensor:
    whole = bool((array == np.floor(array)).all()) and bool((np.abs(array.astype(np.float64)) < 2.0**62).all())
    return torch.from_numpy(array.astype(np.int64 if whole else np.float32))
