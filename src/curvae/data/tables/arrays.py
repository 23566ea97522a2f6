"""Own data from memory: what arrays, tensors and data frames mean, and which of them are a mistake."""

from dataclasses import replace
from typing import Any

from curvae.data.data import Data
from curvae.data.errors import DataError
from curvae.data.formats.cells import is_anndata
from curvae.data.tables.assembling import Options, assemble, resolve_options
from curvae.data.tables.columnar import columnar
from curvae.data.tables.content import split_content, with_split, without_split
from curvae.data.tables.long_tables import sequence_content, sequences_to_test
from curvae.data.tables.matching import select_columns
from curvae.io.reading import Reading


def from_array(
    x: Any,
    labels: Any = None,
    mask: Any = None,
    test: Any = None,
    *,
    test_labels: Any = None,
    test_mask: Any = None,
    reading: Reading | None = None,
    options: Options | None = None,
    **single: Any,
) -> Data:
    """Data of your own: an array, a tensor, a sparse matrix or a frame, split by seed and standardized.

    Args:
        x: a table ``(N, features)``, grey images ``(N, H, W)`` or color images ``(N, H, W, C)`` (``(N, C, H, W)``
            is understood too). 8-bit images become pixels in [0, 1]. What a masked array hides is a missing value.
            Frames are of pandas, polars or Arrow; records, tables of astropy, sparse matrices and AnnData (``key`` says
            which layer) are taken too.
        labels: ``(N,)``, numbers or text; of a frame also the name of a column. For evaluation only.
        mask: of the shape of ``x``, True = observed.
        test: a test part of its own, like ``x``; then ``split`` only divides the rest. A frame's columns are found by
            name, in whatever order.
        test_labels: labels of ``test``.
        test_mask: mask of ``test``.
        reading: what its columns are, see :class:`curvae.data.Reading`. Of an array without names, ``columns`` gives
            its features their names.
        options: how they become data, see :class:`curvae.data.Options`.
        single: single ones of these by name, as ``missing="mask"``, ``drop=["id"]`` or ``split=(0.5, 0.25, 0.25)``.

    Raises:
        DataError: anything of the above that does not fit, in one line.

    >>> import numpy as np
    >>> from_array(np.random.default_rng(0).normal(size=(100, 3)), name="noise")
    Data(noise: 70 + 15 + 15 x (3,), real, data as given)
    """
    how, options = resolve_options("from_array", reading, options, single)
    what = options.name or "x"
    if how.sequence is not None:
        return _of_sequences(what, x, labels, mask, test, how, options)
    cells = is_anndata(x)
    content = split_content(what, x, labels, mask, how if cells else without_split(how, options.split_by))
    content = with_split(content, columnar(what, x.obs if cells else x), options.split_by)
    parts = [content]
    if test is not None:
        found = select_columns(content.columns, content.named, "test", test, mask=test_mask)
        parts.append(found if test_labels is None else found._replace(labels=test_labels))
    return assemble(parts, how, options, {"name": "array", **({"key": how.key} if how.key else {})})


def _of_sequences(what: str, x: Any, labels: Any, mask: Any, test: Any, how: Reading, options: Options) -> Data:
    """The sequences of a frame with a row for each step."""
    if mask is not None or not (labels is None or isinstance(labels, str | int)):
        raise DataError(
            f"{what}: expected no mask, and labels by the name of their column, with sequence={how.sequence!r}."
        )
    how = how if labels is None else replace(how, label=labels)
    parts = [sequence_content(what, x, how, options.split_by, options.event)]
    parts += [] if test is None else [sequences_to_test(parts[0], "test", test)]
    return assemble(parts, how, options, {"name": "array"})
