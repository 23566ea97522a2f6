"""Which rows train, which choose and which test: by seed, by a column that says so, by groups, by shares of a label."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data.data import Rows
from curvae.data.errors import DataError
from curvae.data.tables.labels import flat, words

PARTS = ("train", "validation", "test")
SPOKEN = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "test": 2, "testing": 2}
"""Words of a column that says where a row belongs."""
Shares: TypeAlias = Sequence[float | int]
Split: TypeAlias = Shares | Mapping[str, Sequence[int]]


class Keys(NamedTuple):
    """What a split goes by beside shares and a seed, a word a row ``(N,)`` each; None where it does not."""

    split_column: NDArray[Any] | None = None
    group: NDArray[Any] | None = None
    stratify: NDArray[Any] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], count: int) -> "Keys":
        """Of columns, or of arrays with a value a row."""
        return cls(**{name: _told(name, given, count) for name, given in values.items()})


BY_SHARES = Keys()


def parted(rows: Rows, test: Rows | None, split: Split, seed: int, keys: Keys = BY_SHARES) -> tuple[Rows, Rows, Rows]:
    """Training, validation and test rows; the last are those of ``test`` where they are given.

    Args:
        rows: all of them, or all but those of the test part.
        test: a test part of its own.
        split: shares of the three parts, or the rows of each by number.
        seed: of what is left to chance.
        keys: what else it goes by. Rows of a group stay together; each class has its share of every part, to a row or
            a group; rows that are said to be of a part are. Where none is said to be validation, some of training are.

    Raises:
        DataError: shares that do not sum to 1, a part without rows, a group in two parts, a class with fewer rows than
            parts, a word that names no part, a row in no part or in two.

    Example:
        >>> rows = Rows(torch.arange(20.0)[:, None])
        >>> group = np.repeat(["a", "b", "c", "d"], 5)
        >>> [part.raw[:, 0].int().tolist() for part in parted(rows, None, (0.5, 0.25, 0.25), 1, Keys(group=group))]
        [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]
    """
    said = _said(split, keys, len(rows.raw))
    shares = _shares((0.7, 0.15, 0.15) if isinstance(split, Mapping) else split)
    if said is None and keys.group is None and keys.stratify is None:
        return _by_seed(rows, test, shares, seed)
    places = _drawn(shares[: 2 if test else 3], len(rows.raw), keys, seed) if said is None else said
    if said is not None and not (said == 1).any():
        places = _with_validation(said, shares, keys, seed)
    _check_groups(places, keys.group)
    return _taken(rows, test, places)


def _taken(rows: Rows, test: Rows | None, places: NDArray[np.int64]) -> tuple[Rows, Rows, Rows]:
    counts = np.bincount(places, minlength=3).tolist()
    if test is not None and counts[2]:
        mend = "leave one of both out"
        raise DataError(f"split: expected no test rows beside a test part of its own, got {counts[2]}; {mend}.")
    if min(counts[: 2 if test else 3]) == 0:
        got = ", ".join(f"{n} {part}" for n, part in zip(counts, PARTS, strict=True))
        raise DataError(f"split: expected rows in every part, got {got}; pass more data, or other shares.")
    found = [rows.take(torch.from_numpy(np.flatnonzero(places == part))) for part in range(3)]
    return found[0], found[1], found[2] if test is None else test


def _shares(split: Shares) -> Shares:
    if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise DataError(f"split: expected three shares that sum to 1, got {tuple(split)}; e.g. (0.7, 0.15, 0.15).")
    return split


def _by_seed(rows: Rows, test: Rows | None, split: Shares, seed: int) -> tuple[Rows, Rows, Rows]:
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


def _said(split: Split, keys: Keys, count: int) -> NDArray[np.int64] | None:
    """The part of each row, where each is said to be of one."""
    if isinstance(split, Mapping):
        if keys.split_column is not None:
            raise DataError("split: expected rows by number or split_column, got both; leave one of them out.")
        return _numbered(split, count)
    if keys.split_column is None:
        return None
    told = np.char.lower(keys.split_column.astype(np.str_))
    if len(odd := np.flatnonzero(~np.isin(told, list(SPOKEN)))):
        got = f"got {str(keys.split_column[odd[0]])!r} in row {odd[0]}"
        raise DataError(f"split_column: expected train, validation or test in every row, {got}; mend it.")
    return np.array([SPOKEN[word] for word in told])


def _numbered(split: Mapping[str, Sequence[int]], count: int) -> NDArray[np.int64]:
    """The part of each row, from the rows of each part."""
    if unknown := sorted(split.keys() - set(PARTS)):
        raise DataError(f"split: expected train, validation and test, got {unknown[0]!r}.")
    places = np.full(count, -1)
    for part, name in enumerate(PARTS):
        index = np.asarray(split.get(name, ()))
        if index.size and (index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= count):
            raise DataError(f"split: expected numbers of rows in 0..{count - 1} for {name}, got {index.tolist()[:5]}.")
        index = index.astype(np.int64)
        twice = index[(places[index] >= 0)]
        places[index] = part
        if len(twice) or len(np.unique(index)) < len(index):
            row = twice[0] if len(twice) else index[np.argmax(np.bincount(index)[index] > 1)]
            raise DataError(f"split: expected each row in one part, got row {row} twice; leave it out of one.")
    if len(none := np.flatnonzero(places < 0)):
        raise DataError(f"split: expected each row in one part, got {len(none)} in none, the first row {none[0]}.")
    return places


def _with_validation(said: NDArray[np.int64], split: Shares, keys: Keys, seed: int) -> NDArray[np.int64]:
    """Some of the training rows for validation, in the share that they have of both."""
    train = np.flatnonzero(said == 0)
    some = Keys(*(None if each is None else each[train] for each in keys))
    places = said.copy()
    places[train] = _drawn(split[:2], len(train), some, seed)
    return places


def _drawn(shares: Shares, count: int, keys: Keys, seed: int) -> NDArray[np.int64]:
    """The part of each row by chance: groups as a whole, each class by itself."""
    group = np.arange(count) if keys.group is None else np.unique(keys.group, return_inverse=True)[1]
    names, strata = np.unique(np.zeros(count) if keys.stratify is None else keys.stratify, return_inverse=True)
    generator, places = np.random.default_rng(seed), np.zeros(count, dtype=np.int64)
    mixed = {label: set(strata[group == label]) for label in np.unique(group)} if keys.group is not None else {}
    if keys.stratify is not None and (odd := [g for g, found in mixed.items() if len(found) > 1]):
        name = np.asarray(keys.group)[group == odd[0]][0]
        mend = "leave group or stratify out"
        raise DataError(f"stratify: expected one class in each group, got several in {str(name)!r}; {mend}.")
    for stratum, name in enumerate(names):
        rows = np.flatnonzero(strata == stratum)
        units, sizes = np.unique(group[rows], return_counts=True)
        if len(units) < len(shares):
            raise DataError(_too_few(keys, str(name), len(units), len(shares)))
        part_of = dict(zip(units.tolist(), _filled(sizes, shares, generator), strict=True))
        places[rows] = [part_of[unit] for unit in group[rows].tolist()]
    return places


def _too_few(keys: Keys, name: str, count: int, parts: int) -> str:
    unit = "rows" if keys.group is None else "groups"
    whose = "" if keys.stratify is None else f" of each class, got {count} of {name!r}"
    what = "stratify" if keys.stratify is not None else "group"
    return f"{what}: expected {parts} or more {unit}{whose or f', got {count}'}, one for each part; join some."


def _filled(sizes: NDArray[np.int64], shares: Shares, generator: np.random.Generator) -> list[int]:
    """The part of each unit: the largest first, each to the part that lacks most of its share; none stays empty."""
    lacks = np.asarray(shares, dtype=np.float64) / sum(shares) * sizes.sum()
    order = generator.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    places, empty = [0] * len(sizes), set(range(len(shares)))
    for left, unit in zip(range(len(sizes), 0, -1), order.tolist(), strict=True):
        open_ = sorted(empty) if left <= len(empty) else range(len(shares))
        part = max(open_, key=lambda each: lacks[each])
        places[unit] = part
        lacks[part] -= sizes[unit]
        empty.discard(part)
    return places


def _check_groups(places: NDArray[np.int64], group: NDArray[Any] | None) -> None:
    """
    Raises:
        DataError: rows of a group are in two parts.
    """
    if group is None:
        return
    pairs = np.unique(np.stack([np.unique(group, return_inverse=True)[1], places]), axis=1)
    twice = pairs[0][:-1][pairs[0][1:] == pairs[0][:-1]]
    if len(twice):
        parts = " and ".join(PARTS[part] for part in pairs[1][pairs[0] == twice[0]])
        name = str(np.unique(group)[twice[0]])
        raise DataError(f"group: expected all rows of a group in one part, got {name!r} in {parts}; mend one of both.")


def _told(name: str, given: Any, count: int) -> NDArray[Any]:
    """A word a row.

    Raises:
        DataError: a row without one, or not one a row.
    """
    told = words(flat(name, given, count))
    if len(empty := np.flatnonzero(told == "")):
        raise DataError(f"{name}: expected a value in every row, got none in row {empty[0]}; fill it in.")
    return told
