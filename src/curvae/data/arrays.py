"""Own data from memory: what arrays, tensors and data frames mean, and which of them are a mistake."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from curvae.data.coerce import from_frame, is_frame, observed, to_event, to_labels, to_tensor
from curvae.data.data import Data, Rows, build
from curvae.data.errors import DataError
from curvae.data.finite import check_range, check_transformed
from curvae.data.preprocess import image_transform
from curvae.data.transforms import Identity, MeanSubtraction, Standardization, Transform
from curvae.typing import DataSpec, Support


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
    columns: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "array",
) -> Data:
    """Data of your own: a NumPy array, a tensor or a pandas frame, split by seed and standardized.

    Args:
        x: a table ``(N, features)``, grey images ``(N, H, W)`` or color images ``(N, H, W, C)`` (``(N, C, H, W)``
            is understood too). 8-bit images become pixels in [0, 1].
        labels: ``(N,)``, numbers or text; of a frame also the name of a column. For evaluation only.
        mask: of the shape of ``x``, True = observed.
        test: a test part of its own, like ``x``; then ``split`` only divides the rest.
        test_labels: labels of ``test``.
        test_mask: mask of ``test``.
        support: ``"real"``, ``"binary"`` or ``"category"`` (integers from 0); guessed between the first two.
        categories: number of categories; by default the largest code + 1.
        split: shares of training, validation and test rows.
        standardize: to mean 0 and variance 1 by the training rows; by default for real tables only. Real images
            otherwise lose their mean.
        transform: used instead.
        missing: ``"mask"`` turns NaN into a mask; ``"error"`` refuses it.
        event: shape of one datum, where the rules above do not give it (sequences, say).
        columns: names of the features, for messages; of a frame, the columns to keep.
        seed: of the split.
        name: of the data, for reports.

    Raises:
        DataError: anything of the above that does not fit, in one line.

    >>> from_array(np.random.default_rng(0).normal(size=(100, 3)), name="noise")
    Data(noise: 70 + 15 + 15 x (3,), real, data as given)
    """
    if is_frame(x):
        if is_frame(test):
            test, test_labels, _ = from_frame(test, labels if isinstance(labels, str) else test_labels, columns)
        x, labels, columns = from_frame(x, labels, columns)
    labels, test_labels = _codes(labels, test_labels)
    what = "x" if name == "array" else name
    first = rows(what, x, labels, mask, missing, event, columns)
    others = None if test is None else rows("test", test, test_labels, test_mask, missing, event, columns)
    if others is not None and others.raw.shape[1:] != first.raw.shape[1:]:
        expected, got = tuple(first.raw.shape[1:]), tuple(others.raw.shape[1:])
        raise DataError(f"test: expected data of shape {expected} as x, got {got}.")
    everything = [first] if others is None else [first, others]
    for whose, part in zip((what, "test"), everything, strict=False):
        check_range(whose, part.raw, part.mask, columns)
    kind = _support(everything, support)
    spec = DataSpec(tuple(first.raw.shape[1:]), kind, _categories(everything, kind, categories), name)
    parts = _split(first, others, split, seed)
    fitted = transform or _transform(parts[0], kind, standardize)
    for whose, part in zip((what, "test"), everything, strict=False):
        check_transformed(whose, part.raw, fitted, part.mask, columns)
    return build(parts, spec, fitted, {"name": "array"})


def _codes(labels: Any, test_labels: Any) -> tuple[Any, Any]:
    """Text labels of both parts as codes of one vocabulary; other labels as they are."""
    if labels is None or test_labels is None or np.asarray(labels).dtype.kind in "biuf":
        return labels, test_labels
    both = np.concatenate([np.asarray(labels).astype(str), np.asarray(test_labels).astype(str)])
    codes = np.unique(both, return_inverse=True)[1]
    return codes[: len(labels)], codes[len(labels) :]


def rows(
    what: str, x: Any, labels: Any, mask: Any, missing: str, event: Sequence[int] | None, columns: Sequence[str] | None
) -> Rows:
    """Rows of anything that holds data, checked: what is not observed is 0."""
    raw = to_event(what, to_tensor(what, x), event)
    seen = None if mask is None else to_event("mask", to_tensor("mask", mask), event)
    seen = observed(what, raw, seen, missing, columns)
    label = None if labels is None else to_labels("test_labels" if what == "test" else "labels", labels, len(raw))
    return Rows(raw if seen is None else torch.where(seen, raw, 0), label, seen)


def _split(rows: Rows, test: Rows | None, split: Sequence[float | int], seed: int) -> tuple[Rows, Rows, Rows]:
    if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise DataError(f"split: expected three shares that sum to 1, got {tuple(split)}; e.g. (0.7, 0.15, 0.15).")
    count = len(rows.raw)
    if test is None:
        held_out, tested = round(count * split[1]), round(count * split[2])
    else:
        held_out, tested = round(count * split[1] / (split[0] + split[1])), 0
    if held_out < 1 or count - held_out - tested < 1 or (test is None and tested < 1):
        raise DataError(
            f"split: expected rows in every part, got shares {tuple(split)} of {count} rows; pass more data."
        )
    train, rest = rows.cut(held_out + tested, seed)
    if test is not None:
        return train, rest, test
    return train, *rest.cut(tested, seed + 1)


def _support(parts: Sequence[Rows], support: str | None) -> Support:
    """The support asked for, if the observed values allow it; guessed as binary or real."""
    if support not in (None, "real", "binary", "category"):
        raise DataError(f"support: expected 'real', 'binary' or 'category', got {support!r}.")
    if support == "real":
        return "real"
    binary = all(bool(((part.raw == 0) | (part.raw == 1)).all()) for part in parts)
    if support == "binary" and not binary:
        odd = next(float(v) for part in parts for v in part.raw.unique() if v not in (0, 1))
        raise DataError(f"support: expected only 0 and 1 as support is 'binary', got {odd:g}; say support='real'.")
    return cast(Support, support) if support else ("binary" if binary else "real")


def _categories(parts: Sequence[Rows], support: Support, categories: int | None) -> int:
    if support != "category":
        return 2
    values = torch.cat([part.raw.double().unique() for part in parts]).unique()
    odd = values[(values < 0) | (values != values.floor())]
    if len(odd):
        raise DataError(f"x: expected integers 0, 1, ... as support is 'category', got {odd[0]:g}; code them from 0.")
    count = int(values.max()) + 1
    if categories is not None and count > categories:
        raise DataError(f"categories: expected more than the largest code, {count - 1}, got {categories}.")
    return categories or count


def _transform(train: Rows, support: Support, standardize: bool | None) -> Transform:
    """The default of the data's kind, fitted on the training rows."""
    if support != "real":
        if standardize:
            raise DataError(
                f"standardize: expected False for {support} data, got True; say support='real' or leave it out."
            )
        return Identity()
    if train.raw.ndim != 4:
        return Identity() if standardize is False else Standardization.fit(train.raw, train.mask)
    if train.raw.dtype == torch.uint8:
        return image_transform(train.raw, 256, train.mask, standardize=bool(standardize))
    if train.raw.min() >= 0 and train.raw.max() <= 1:
        return image_transform(train.raw, None, train.mask, standardize=bool(standardize))
    fit = Standardization.fit if standardize else MeanSubtraction.fit
    return fit(train.raw, train.mask)
