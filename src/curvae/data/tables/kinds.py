"""What the values of each column are, seen from the values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.schema import Column, Kind
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
        words, odd = RULES.get(kind, ("", torch.isinf))
        for x, seen in map(_flat, parts):
            bad = odd(x[:, places[name]]) & seen[:, places[name]]
            if bad.any():
                got = f"{float(x[bad, places[name]][0]):g} in row {int(bad.nonzero()[0])}, column {name!r}"
                raise DataError(
                    f"{what}: expected {words} as {name!r} is a {kind}, got {got}; say kind={{{name!r}: 'real'}}."
                )
    return tuple(replace(each, kind=made.get(each.name, each.kind)) for each in columns)


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
    x, seen = (torch.cat(each) for each in zip(*map(_flat, parts), strict=True))
    each = zip(said, words, x.mT, seen.mT, strict=True)
    return tuple(_with_count(kind, vocabulary, column[there]) for kind, vocabulary, column, there in each)


def _with_count(declared: str | None, vocabulary: Sequence[str] | None, values: Tensor) -> str:
    """What a column is, with the number of its categories, 2 at least; codes and ranks count from 0."""
    zeros = len(values) and bool(((values == 0) | (values == 1)).all())
    kind = declared or ("category" if vocabulary else "binary" if zeros else "real")
    if kind not in ("category", "ordinal"):
        return kind
    most = len(vocabulary) if vocabulary else int(values.max()) + 1 if len(values) else 2
    return f"{kind}:{max(2, most)}"


def _kinds(parts: Sequence[Rows], spec: DataSpec, dtypes: Sequence[str]) -> list[Kind]:
    """The narrowest kind that holds all observed values of each feature."""
    if spec.support == "mixed":
        return [cast(Kind, word.partition(":")[0]) for word in spec.kinds]
    if spec.support != "real":
        return [cast(Kind, spec.support)] * len(dtypes)
    ends = [_extremes(part) for part in parts]
    least, most = torch.stack([each for each, _ in ends]).amin(0), torch.stack([each for _, each in ends]).amax(0)
    whole = torch.stack([_whole(part) for part in parts]).all(0)
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
        values = x[:, j].double() if mask is None else x[:, j][mask[:, j]].double()
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
        low, high = x.aminmax(dim=0) if seen is None else _observed_ends(x, seen)
        least, most = torch.minimum(least, low), torch.maximum(most, high)
    return least, most


def _observed_ends(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    return x.where(seen, torch.inf).amin(0), x.where(seen, -torch.inf).amax(0)


def _whole(rows: Rows) -> Tensor:
    """Whether each feature has whole numbers alone."""
    whole = torch.ones(rows.raw.flatten(1).shape[1:], dtype=torch.bool)
    for x, seen in _blocks(rows):
        if not whole.any():
            break
        same = x == x.floor()
        whole &= (same if seen is None else same | ~seen).all(0)
    return whole


def _flat(rows: Rows) -> tuple[Tensor, Tensor]:
    """Values ``(N, features)`` in float64 and where they are observed."""
    x = rows.raw.flatten(1).double()
    return x, torch.ones_like(x, dtype=torch.bool) if rows.mask is None else rows.mask.flatten(1)
