"""A schema read from a file: nothing in it is believed before it was looked at."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from curvae.data.errors import DataError
from curvae.data.schema import BESIDE, DTYPES, HOLDERS, KINDS, SUPPORTS, Column, Origin, Schema, unique
from curvae.typing import DataSpec

Check = Callable[[Any], bool]


def read(values: Any) -> Schema:
    """See :meth:`curvae.data.Schema.from_dict`."""
    found = _checked("schema", values, SCHEMA)
    spec = DataSpec(**(_checked("schema.spec", found.pop("spec"), SPEC)))
    columns = tuple(_column(i, column) for i, column in enumerate(found.pop("columns", ())))
    origins = tuple(Origin(**_checked("schema.origins", origin, ORIGIN)) for origin in found.pop("origins", ()))
    schema = Schema(spec._replace(event=tuple(spec.event)), columns, origins=origins, **found)
    unique("schema", [column.name for column in columns if column.kind != "ignored"])
    if schema.features and len(schema.features) != math.prod(spec.event):
        raise DataError(
            f"schema: expected {math.prod(spec.event)} features for examples of shape {schema.spec.event}, "
            f"got {len(schema.features)}; the file is damaged."
        )
    return schema


def _column(number: int, values: Any) -> Column:
    return Column(**_checked(f"schema.columns[{number}]", values, COLUMN))


def _checked(what: str, values: Any, allowed: Mapping[str, Check]) -> dict[str, Any]:
    """Values by name, each looked at; lists as tuples."""
    if not isinstance(values, Mapping):
        raise DataError(f"{what}: expected names and values, got {type(values).__name__}; the file is damaged.")
    for name in REQUIRED & allowed.keys():
        if name not in values:
            raise DataError(f"{what}: expected {name!r} in it, got none; the file is damaged.")
    for name, value in values.items():
        if name not in allowed:
            raise DataError(f"{what}: expected names out of {', '.join(allowed)}, got {name!r}; the file is damaged.")
        if not allowed[name](value):
            raise DataError(f"{what}.{name}: expected what a run writes, got {_short(value)}; the file is damaged.")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(least: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _one_of(words: tuple[str, ...]) -> Check:
    return lambda value: isinstance(value, str) and value in words


def _list_of(each: Check, least: int = 0) -> Check:
    return lambda value: isinstance(value, list | tuple) and len(value) >= least and all(map(each, value))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _any_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


REQUIRED = frozenset({"spec", "event", "name", "given", "absolute"})
SPEC: dict[str, Check] = {
    "event": _list_of(_whole(1), least=1),
    "support": _one_of(SUPPORTS),
    "categories": _whole(1),
    "name": _text,
}
COLUMN: dict[str, Check] = {
    "name": _text,
    "kind": _one_of(KINDS),
    "dtype": _one_of(DTYPES),
    "place": _whole(BESIDE),
    "constant": _or_none(_finite),
    "vocabulary": _or_none(_list_of(_text)),
}
ORIGIN: dict[str, Check] = {"given": _text, "absolute": _text, "near": _or_none(_text)}
SCHEMA: dict[str, Check] = {
    "spec": lambda value: isinstance(value, Mapping),
    "columns": _any_list,
    "named": lambda value: isinstance(value, bool),
    "dtype": _one_of(DTYPES),
    "unit": _text,
    "missing": _one_of(("error", "mask")),
    "markers": _list_of(_text),
    "holder": _one_of(HOLDERS),
    "origins": _any_list,
    "checksum": _text,
}
