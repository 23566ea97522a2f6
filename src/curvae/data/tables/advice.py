"""What a newcomer would want to be told of a table: columns that say nothing, twice the same, or something else."""

import re
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from curvae.data.data import Rows
from curvae.data.dialect import Decision
from curvae.data.errors import DataAdvice
from curvae.data.schema import Column, Schema
from curvae.data.stored import StoredRows, rows_in_memory

NUMBERED = re.compile(
    r"(?:.*[_ ])?(?:ids?|index|idx|uuid|uid|(?:spec)?obj_?id|nr|no|row|rownames|rowid|key)\Z", re.IGNORECASE
)
NAMED = re.compile(
    r"(?:.*[_ ])?(?:labels?|class(?:es)?|target|species|category|diagnosis|cluster|group|y|outcome)\Z", re.IGNORECASE
)
HIGHEST = 1.7976931348623157e308
SENTINELS = (-9.0, -99.0, -999.0, -9999.0, -99999.0, -32768.0, -1e20, 9999.0, 99999.0, 999999.0, 1e20, 1e30, HIGHEST)
CLASSES = 20
"""Labels have at most so many values."""
MANY = 40
"""Columns that are named one by one."""
FEW, SEEN = 10, 10_000
"""Rows from which a column says what it is, and rows that are looked at first."""


def advise(what: str, schema: Schema, rows: Rows) -> None:
    """Warn of columns that are better treated in another way, one line a kind."""
    for line in proposals(schema, rows):
        warnings.warn(f"{what}: {line}", DataAdvice, stacklevel=2)


def say_decided(what: str, made: Sequence[Decision], earlier: Sequence[Decision] = ()) -> None:
    """Warn of what was decided of a file and is not as everywhere, or not as in an earlier one."""
    plain = {("letters", "utf-8"), ("letters", "utf-8-sig"), ("between cells", "commas"), ("between cells", "tabs")}
    plain |= {("decimals", "point"), ("names", "the first row"), ("names", "none; columns are called 0, 1, ...")}
    plain |= {(each.what, each.found) for each in earlier if each.what != "left out"}
    odd = [f"{each.what}: {each.found}" for each in made if (each.what, each.found) not in plain]
    if odd:
        line = f"{what}: {'; '.join(odd)}; curvae data {what} says how to change it."
        warnings.warn(line, DataAdvice, stacklevel=3)


def proposals(schema: Schema, rows: Rows) -> Iterator[str]:
    """What is better said of the columns of a table, one line a kind."""
    features = schema.features
    if not features or len(rows.raw) < FEW or schema.spec.support == "category":
        return
    rows = _first(rows)
    x = rows_in_memory(rows.raw).flatten(1)
    whole = None if rows.mask is None else rows.mask.flatten(1)
    told: set[str] = set()
    if whole is not None and (empty := _names(features, ~whole.any(0))):
        told |= set(empty)
        yield f"no value at all in {_few(empty)}; proposal: {_without(empty)}."
    if constant := [each for each in schema.constants if each not in told]:
        told |= set(constant)
        yield f"one value alone in {_few(constant)}; proposal: {_without(constant)}."
    if numbered := [each.name for j, each in enumerate(features) if each.name not in told and _numbers(each, x[:, j])]:
        told |= set(numbered)
        yield f"a number for each row in {_few(numbered)}, as names of rows have; proposal: {_without(numbered)}."
    if twice := [name for name in _twice(features, x, whole) if name not in told]:
        told |= set(twice)
        yield f"the same values as in another column in {_few(twice)}; proposal: {_without(twice)}."
    step = max(1, len(x) // SEEN)
    some, seen = x[::step], None if whole is None else whole[::step]
    yield from _of_values(schema, [each for each in features if each.name not in told], some, seen)


def _first(rows: Rows) -> Rows:
    """Of rows that stay in their file the first ones, in memory."""
    if not isinstance(rows.raw, StoredRows):
        return rows
    mask = None if rows.mask is None else rows.mask[:SEEN]
    return Rows(rows.raw[:SEEN], None, mask)


def _of_values(schema: Schema, features: Sequence[Column], x: Tensor, seen: Tensor | None) -> Iterator[str]:
    """What the values of columns may be."""
    place = {column.name: j for j, column in enumerate(schema.features)}
    for column in features:
        if (found := _sentinel(x[:, place[column.name]], seen, place[column.name])) is not None:
            value = f"{found:.17g}"
            yield f"{value} in {column.name!r}, far from its other values; proposal: missing_value=[{value}]."
    declared = {name for name, j in place.items() if schema.spec.kinds[j : j + 1] == ("count",)}
    unsaid = [column for column in features if column.name not in declared]
    labels = [] if schema.label is not None else _labels(unsaid, x, place)
    if labels:
        yield f"few whole numbers in {_few(labels[:1])}, as labels have; proposal: label={labels[0]!r}."
    if words := [each.name for each in features if each.kind == "category" and each.vocabulary]:
        yield f"words in {_few(words)}, taken for categories; proposal: label={words[-1]!r} if they are labels."
    if schema.spec.support not in ("real", "mixed"):
        return
    counts = [each.name for each in unsaid if each.kind == "count" and each.name not in labels]
    counts = [name for name in counts if _counts(x[:, place[name]])]
    if counts:
        said = "kind={" + ", ".join(f"{name!r}: 'count'" for name in counts[:8]) + "}"
        rest = "support='count'" if len(counts) == len(schema.features) else said
        yield f"counts in {_few(counts)}, which a Gaussian takes for real numbers; proposal: {rest}."


def _names(features: Sequence[Column], where: Tensor) -> list[str]:
    return [column.name for column, found in zip(features, where.tolist(), strict=True) if found]


def _without(names: Sequence[str]) -> str:
    """How columns are left out, by name where these are not too many for a line."""
    return f"drop={list(names)}" if len(names) <= MANY else f"leave all {len(names):,} of them out"


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _numbers(column: Column, x: Tensor) -> bool:
    """Whether a column has a whole number of its own for each row, and is called so or counts by ones."""
    if column.dtype.startswith("float") or column.kind not in ("count", "real", "positive") or not _distinct(x[:SEEN]):
        return False
    steps = x[:SEEN].diff()
    return bool((steps == 1).all()) or (NUMBERED.match(column.name) is not None and _distinct(x))


def _distinct(x: Tensor) -> bool:
    return len(x.unique()) == len(x)


def _twice(features: Sequence[Column], x: Tensor, seen: Tensor | None) -> list[str]:
    """Columns that are another one before them again."""
    if len(features) < 2:
        return []
    keys: dict[bytes, int] = {}
    found = []
    for j, column in enumerate(features):
        first = keys.setdefault(x[:64, j].contiguous().numpy().tobytes(), j)
        same = seen is None or bool((seen[:, first] == seen[:, j]).all())
        if first != j and same and torch.equal(x[:, first], x[:, j]):
            found.append(column.name)
    return found


def _sentinel(x: Tensor, seen: Tensor | None, place: int) -> float | None:
    """A value that is often used for a missing one, is there twice or more, and far from all others."""
    x = x if seen is None else x[seen[:, place]]
    if len(x) < FEW:
        return None
    for end in (float(x.min()), float(x.max())):
        if end in SENTINELS:
            others = x[x != end]
            if 1 < len(x) - len(others) < len(x) / 2 and len(others) > 1:
                low, high = float(others.min()), float(others.max())
                if not low - (high - low) <= end <= high + (high - low):
                    return end
    return None


def _labels(features: Sequence[Column], x: Tensor, place: dict[str, int]) -> list[str]:
    """Columns of few whole numbers among others: those that are called so, and the first or last one."""
    whole = [each for each in features if each.kind in ("count", "binary") and _is_coarse(x[:, place[each.name]])]
    called = [each.name for each in whole if NAMED.match(each.name)]
    if called or len(whole) != 1 or len(features) < 3:
        return called
    only = whole[0]
    at_end = only.name in (features[0].name, features[-1].name)
    return [only.name] if at_end and len(x) > 5 * CLASSES and only.kind == "count" else []


def _is_coarse(x: Tensor) -> bool:
    return len(x.unique()) <= CLASSES


def _counts(x: Tensor) -> bool:
    """Whether whole numbers from 0 on are so small that a Gaussian is no likely law of them."""
    x = x.double()
    return float(x.mean()) < 3 * float(x.std(correction=0)) or float(x.mean()) < 20
