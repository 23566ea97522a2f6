"""What the values of each column are, seen from the values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import isfinite
from typing import cast

import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.schema import Column, Kind
from curvae.data.stored import single_column
from curvae.data.transforms.base import ROWS
from curvae.memory import blocks
from curvae.typing import DataSpec

ROUNDING = 1e-12
"""A column whose standard deviation is below this share of its mean is constant, but for rounding."""


def with_kinds(columns: Sequence[Column], parts: Sequence[Rows], train: Rows, spec: DataSpec) -> tuple[Column, ...]:
    """The columns with the kinds of their features, seen from all parts, and what is constant in training."""
    features = [column for column in columns if column.is_feature]
    if not features:
        return tuple(columns)
    kinds = _kinds(parts, spec, [column.dtype for column in features])
    codes = tuple(map(str, range(spec.categories))) if spec.support == "category" else None
    known = [
        replace(column, kind=_kept(column, kind), constant=constant, vocabulary=codes or column.vocabulary)
        for column, kind, constant in zip(features, kinds, _constants(train), strict=True)
    ]
    return (*known, *(column for column in columns if not column.is_feature))


def _kept(column: Column, seen: Kind) -> Kind:
    """Words that were coded are categories, whatever their codes look like."""
    return "category" if column.kind == "category" and column.vocabulary is not None else seen


RULES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "positive": ("numbers above 0", lambda x: x <= 0),
    "count": ("whole numbers from 0", lambda x: (x < 0) | (x != x.floor())),
    "binary": ("0 and 1", lambda x: (x != 0) & (x != 1)),
    "category": ("whole numbers from 0, or words", lambda x: (x < 0) | (x != x.floor())),
    "ordinal": ("whole numbers from 0", lambda x: (x < 0) | (x != x.floor())),
}
"""What the values of each kind are, and which are none."""


def as_declared(
    what: str, columns: Sequence[Column], parts: Sequence[Rows], kinds: Mapping[str, str]
) -> tuple[Column, ...]:
    """The columns with the kinds that the user says they have.

    Raises:
        DataError: a value is none of its kind.
    """
    places = {column.name: j for j, column in enumerate(column for column in columns if column.is_feature)}
    made = {name: cast(Kind, kind) for name, kind in kinds.items() if name in places}
    for name, kind in made.items():
        if kind in RULES:
            _check_column(what, name, kind, places[name], parts)
    return tuple(replace(each, kind=made.get(each.name, each.kind)) for each in columns)


def _check_column(what: str, name: str, kind: str, place: int, parts: Sequence[Rows]) -> None:
    words, odd = RULES[kind]
    for part in parts:
        for number, (x, seen) in enumerate(_blocks(part)):
            bad = odd(x[:, place]) if seen is None else odd(x[:, place]) & seen[:, place]
            if bad.any():
                row = number * ROWS + int(bad.nonzero()[0])
                got = f"{float(x[bad, place][0]):g} in row {row}, column {name!r}"
                raise DataError(
                    f"{what}: expected {words} as {name!r} is a {kind}, got {got}; say kind={{{name!r}: 'real'}}."
                )


def mixed_kinds(
    columns: Sequence[Column], parts: Sequence[Rows], declared: Mapping[str, str], support: str | None
) -> tuple[str, ...]:
    """The kind of each column, where they are not all of one support that was asked for or can be seen; else none.

    Columns of words are categories. Of the others each is what it is declared to be; where not all are, columns of 0
    and 1 are binary, and any other is real.

    Raises:
        DataError: mixed data are asked for, of data that have no columns.
    """
    features = [column for column in columns if column.is_feature]
    said = [declared.get(column.name) for column in features]
    words = [column.vocabulary for column in features]
    alike = len(set(said)) == 1 and not any(words) and said[0] not in ("category", "ordinal")
    if support not in (None, "mixed") or (support is None and (not features or alike)):
        return ()
    if not features:
        raise DataError("support: expected columns of a table as support is 'mixed', got data without; leave it out.")
    least, most = _ends(parts)
    bits = _all_of(parts, lambda x: (x == 0) | (x == 1)) & (least <= most)
    each = zip(said, words, bits.tolist(), most.tolist(), strict=True)
    return tuple(_with_count(*column) for column in each)


def _with_count(declared: str | None, vocabulary: Sequence[str] | None, bits: bool, most: float) -> str:
    """What a column is, with the number of its categories, 2 at least; codes and ranks count from 0."""
    kind = declared or ("category" if vocabulary else "binary" if bits else "real")
    if kind not in ("category", "ordinal"):
        return kind
    count = len(vocabulary) if vocabulary else int(most) + 1 if isfinite(most) else 2
    return f"{kind}:{max(2, count)}"


def _kinds(parts: Sequence[Rows], spec: DataSpec, dtypes: Sequence[str]) -> list[Kind]:
    """The narrowest kind that holds all observed values of each feature."""
    if spec.support == "mixed":
        return [cast(Kind, word.partition(":")[0]) for word in spec.kinds]
    if spec.support != "real":
        return [cast(Kind, spec.support)] * len(dtypes)
    least, most = _ends(parts)
    whole = _all_of(parts, lambda x: x == x.floor())
    values = zip(dtypes, least.tolist(), most.tolist(), whole.tolist(), strict=True)
    return [_kind(*each) for each in values]


def _kind(dtype: str, least: float, most: float, whole: bool) -> Kind:
    if dtype == "bool" or (whole and least == 0 and most == 1):
        return "binary"
    if whole and least >= 0:
        return "count"
    return "positive" if least > 0 else "real"


def _constants(train: Rows) -> list[float | None]:
    """The one value of each feature that does not vary; None where it does, or was never observed.

    A standard deviation is at least the range over sqrt(2 N), so that most columns need no second look.
    """
    least, most = _extremes(train)
    near = most - least <= (2 * len(train.raw)) ** 0.5 * ROUNDING * torch.maximum(least.abs(), most.abs())
    found: list[float | None] = [None] * len(least)
    x, mask = train.raw.flatten(1), None if train.mask is None else train.mask.flatten(1)
    for j in near.nonzero().flatten().tolist():
        values = single_column(x, j).double()
        values = values if mask is None else values[single_column(mask, j)]
        if len(values) and values.std(correction=0) <= ROUNDING * values.mean().abs():
            found[j] = float(values[0] if least[j] == most[j] else values.mean())
    return found


def _blocks(rows: Rows) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Some rows at a time in float64, and where they are observed: no second copy of a large table."""
    mask = None if rows.mask is None else rows.mask.flatten(1)
    for x, seen in blocks(rows.raw.flatten(1), mask, ROWS):
        yield x.double(), seen


def _extremes(rows: Rows) -> tuple[Tensor, Tensor]:
    """The least and the highest value of each feature; infinite where it was never observed."""
    least = torch.full(rows.raw.flatten(1).shape[1:], torch.inf, dtype=torch.float64)
    most = -least
    for x, seen in _blocks(rows):
        low, high = x.mT.contiguous().aminmax(dim=1) if seen is None else _observed_ends(x, seen)  # by rows it is slow
        least, most = torch.minimum(least, low), torch.maximum(most, high)
    return least, most


def _observed_ends(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    return x.where(seen, torch.inf).amin(0), x.where(seen, -torch.inf).amax(0)


def _ends(parts: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """The same over all parts."""
    least, most = zip(*map(_extremes, parts), strict=True)
    return torch.stack(least).amin(0), torch.stack(most).amax(0)


def _all_of(parts: Sequence[Rows], rule: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether a rule holds for all observed values of each feature."""
    found = torch.ones(parts[0].raw.flatten(1).shape[1:], dtype=torch.bool)
    for x, seen in chain.from_iterable(map(_blocks, parts)):
        if not found.any():
            break
        holds = rule(x)
        found &= (holds if seen is None else holds | ~seen).all(0)
    return found
