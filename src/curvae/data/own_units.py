"""Values from a model in the data's own units, to the names, kinds and precision that the data had."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from curvae.data.schema import Column, Schema


def restore_dtypes(schema: Schema, raw: Tensor) -> NDArray[Any]:
    """Values ``(..., *event)`` in own units as an array of the type that the data had.

    A feature that never varied in training is that one value. What the data hold as whole numbers is rounded, counts
    to 0 or more, binary values to 0 or 1; nothing else is changed.

    >>> import torch
    >>> from curvae.typing import DataSpec
    >>> schema = Schema(DataSpec((2,)), (Column("n", "count", "int64"), Column("u")), dtype="float64")
    >>> restore_dtypes(schema, torch.tensor([[1.7, 0.25], [-0.4, -1.5]]))
    array([[ 2.  ,  0.25],
           [ 0.  , -1.5 ]])
    """
    values = raw.detach().cpu().numpy()
    if not schema.features:
        return in_dtype(values, Column("", dtype=schema.dtype))
    flat = values.reshape(*values.shape[: values.ndim - len(schema.spec.event)], -1)
    columns = [_column(flat[..., j], column) for j, column in enumerate(schema.features)]
    return in_dtype(np.stack(columns, -1).reshape(values.shape), Column("", dtype=schema.dtype))


def columns_by_name(schema: Schema, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Restored rows column by column, each of its own type; of images the elements of an example, x0, x1, ..."""
    flat = values.reshape(len(values), -1)
    if not schema.features:
        return {f"x{j}": flat[:, j] for j in range(flat.shape[1])}
    return {column.name: _told(flat[:, j], column) for j, column in enumerate(schema.features)}


def lines_of(characters: Sequence[str], codes: NDArray[Any]) -> list[str]:
    """Rows of codes (N, T) as texts.

    >>> lines_of(("a", "b"), np.array([[0, 1, 1], [1, 0, 0]]))
    ['abb', 'baa']
    """
    return ["".join(characters[int(code)] for code in row) for row in np.round(codes)]


def _told(values: NDArray[Any], column: Column) -> NDArray[Any]:
    """Values of a column in its type, of a category in its words."""
    words = column.vocabulary
    if words is None or all(word.isdecimal() for word in words):
        return in_dtype(values, column)
    return np.array(words)[np.clip(np.round(values), 0, len(words) - 1).astype(int)]


def in_dtype(values: NDArray[Any], column: Column) -> NDArray[Any]:
    """Values of a column in its type; whole numbers are rounded and stay within what the type can hold."""
    dtype = np.dtype(column.dtype)
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        highest = np.nextafter(float(info.max), 0) if dtype.itemsize == 8 else info.max
        return np.clip(np.round(values), info.min, highest).astype(dtype)
    return values.astype(dtype)


def _column(values: NDArray[Any], column: Column) -> NDArray[Any]:
    if column.constant is not None:
        return np.full_like(values, column.constant)
    if column.kind == "binary":
        return np.clip(np.round(values), 0, 1)
    if column.kind in ("count", "category"):
        return np.maximum(np.round(values), 0) + 0.0
    return in_dtype(values, column).astype(values.dtype)
