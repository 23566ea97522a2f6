"""What the values of each column are, seen from the values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.schema import Column, Kind
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
    "ordinal": ("whole numbers", lambda x: x != x.floor()),
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


def _kinds(parts: Sequence[Rows], spec: DataSpec, dtypes: Sequence[str]) -> list[Kind]:
    """The narrowest kind that holds all observed values of each feature."""
    if spec.support != "real":
        return [spec.support] * len(dtypes)
    x, seen = (torch.cat(each) for each in zip(*map(_flat, parts), strict=True))
    whole = ((x == x.floor()) | ~seen).all(0)
    least, most = x.where(seen, torch.inf).amin(0), x.where(seen, -torch.inf).amax(0)
    values = zip(dtypes, least.tolist(), most.tolist(), whole.tolist(), strict=True)
    return [_kind(*each) for each in values]


def _kind(dtype: str, least: float, most: float, whole: bool) -> Kind:
    if dtype == "bool" or (whole and least == 0 and most == 1):
        return "binary"
    if whole and least >= 0:
        return "count"
    return "positive" if least > 0 else "real"


def _constants(train: Rows) -> list[float | None]:
    """The one value of each feature that does not vary; None where it does, or was never observed."""
    x, seen = _flat(train)
    least, most = x.where(seen, torch.inf).amin(0), x.where(seen, -torch.inf).amax(0)
    count = seen.sum(0)
    mean = x.where(seen, 0).sum(0) / count.clamp(min=1)
    spread = ((x - mean).square().where(seen, 0).sum(0) / count.clamp(min=1)).sqrt()
    constant = (count > 0) & (spread <= ROUNDING * mean.abs())
    value = torch.where(least == most, least, mean)
    return [v if c else None for v, c in zip(value.tolist(), constant.tolist(), strict=True)]


def _flat(rows: Rows) -> tuple[Tensor, Tensor]:
    """Values ``(N, features)`` in float64 and where they are observed."""
    x = rows.raw.flatten(1).double()
    return x, torch.ones_like(x, dtype=torch.bool) if rows.mask is None else rows.mask.flatten(1)
