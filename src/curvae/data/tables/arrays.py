"""Own data from memory: what arrays, tensors and data frames mean, and which of them are a mistake."""

from collections.abc import Sequence
from typing import Any

from curvae.data.data import Data
from curvae.data.tables.assembling import Options, assemble
from curvae.data.tables.content import Names, take
from curvae.data.tables.matching import select_columns
from curvae.data.transforms import Transform


def from_array(
    x: Any,
    labels: Any = None,
    mask: Any = None,
    test: Any = None,
    *,
    test_labels: Any = None,
    test_mask: Any = None,
    support: str | None = None,
    categories: int | None = None,
    split: Sequence[float | int] = (0.7, 0.15, 0.15),
    standardize: bool | None = None,
    transform: Transform | None = None,
    missing: str = "error",
    event: Sequence[int] | None = None,
    columns: Names | None = None,
    positions: Sequence[int] | None = None,
    seed: int = 0,
    name: str = "array",
) -> Data:
    """Data of your own: a NumPy array, a tensor or a pandas frame, split by seed and standardized.

    Args:
        x: a table ``(N, features)``, grey images ``(N, H, W)`` or color images ``(N, H, W, C)`` (``(N, C, H, W)``
            is understood too). 8-bit images become pixels in [0, 1]. What a masked array hides is a missing value.
        labels: ``(N,)``, numbers or text; of a frame also the name of a column. For evaluation only.
        mask: of the shape of ``x``, True = observed.
        test: a test part of its own, like ``x``; then ``split`` only divides the rest. A frame's columns are found by
            name, in whatever order.
        test_labels: labels of ``test``.
        test_mask: mask of ``test``.
        support: ``"real"``, ``"binary"`` or ``"category"`` (integers from 0); guessed between the first two.
        categories: number of categories; by default the largest code + 1.
        split: shares of training, validation and test rows.
        standardize: to mean 0 and variance 1 by the training rows; by default for real tables only. Real images
            otherwise lose their mean.
        transform: used instead.
        missing: ``"mask"`` turns NaN into a mask; ``"error"`` refuses it.
        event: shape of one example, where the rules above do not give it (sequences, say).
        columns: names: of an array, those of its features; of a frame, the columns to keep, in this order.
        positions: the columns to keep, counted from 0, in this order.
        seed: of the split.
        name: of the data, for reports.

    Raises:
        DataError: anything of the above that does not fit, in one line.

    >>> import numpy as np
    >>> from_array(np.random.default_rng(0).normal(size=(100, 3)), name="noise")
    Data(noise: 70 + 15 + 15 x (3,), real, data as given)
    """
    content = take("x" if name == "array" else name, x, labels, mask, columns, positions)
    parts = [content]
    if test is not None:
        found = select_columns(content.columns, content.named, "test", test, mask=test_mask)
        parts.append(found if test_labels is None else found._replace(labels=test_labels))
    options = Options(support, categories, split, standardize, transform, missing, event, seed, name)
    return assemble(parts, options, {"name": "array"})
