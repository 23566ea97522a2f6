"""Plain values, as JSON and YAML hold them, to the types that were promised: everything is checked, nothing guessed."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from curvae.io.errors import reason


class Range(NamedTuple):
    """A number from ``low`` to ``high``: ``Annotated[int, Range(0)]``."""

    low: float = -math.inf
    high: float = math.inf

    def __call__(self, value: Any, name: str) -> Any:
        within = self.low <= value <= self.high or value != value
        return _expect(within, value, f"a number from {self.low:g} to {self.high:g}", name)


class OneOf(tuple[str, ...]):
    """One of some words, where its type is any text: ``Mapping[Annotated[str, OneOf(["a", "b"])], float]``."""

    __slots__ = ()

    def __call__(self, value: Any, name: str) -> Any:
        return _expect(value in self, value, _listed(self), name)


def _plain(value: Any, name: str) -> Any:
    """Only what JSON has, at any depth; YAML has dates and sets besides."""
    if _is_mapping(value):
        return {key: _plain(each, _under(name, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, _under(name, i)) for i, each in enumerate(value)]
    kind = type(value)
    return SCALARS[kind](value, name) if kind in SCALARS else _expect(False, value, "a plain value", name)


Count = Annotated[int, Range(0, 2**53)]
Share = Annotated[float, Range(0, 1)]
Plain = Annotated[Any, _plain]
"""Anything that JSON holds."""


def conform(value: Any, kind: Any, name: str = "") -> Any:
    """The value as one of that type: a TypedDict is checked, a dataclass made of a mapping; other names are left out.

    Where a float is promised, None stands for NaN, which JSON does not have.

    Args:
        value: mappings with text as names, lists, text, numbers, booleans, None.
        kind: a TypedDict, a dataclass, ``Mapping``, ``tuple[X, ...]``, ``list``, ``Literal``, a union, a scalar,
            ``Annotated`` with a rule such as :class:`Range`, or Any.
        name: of the value, for the message.

    Raises:
        ValueError: it is not; in one line.

    Example:
        >>> conform({"a": [1, 2]}, Mapping[str, tuple[float, ...]])
        {'a': (1.0, 2.0)}
        >>> conform({"a": [1, True]}, Mapping[str, tuple[float, ...]])
        Traceback (most recent call last):
        ValueError: a.1: expected a number, got True
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return args[1](conform(value, args[0], name), name)
    if origin in (Union, UnionType):
        return _either(value, args, name)
    if origin is Literal:
        return _expect(any(type(value) is type(each) and value == each for each in args), value, _listed(args), name)
    if kind in SCALARS:
        return SCALARS[kind](value, name)
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _fields(value, kind, name)
    if origin in (dict, Mapping):
        _expect(_is_mapping(value), value, "names and values", name)
        return {conform(key, args[0], name): conform(each, args[1], _under(name, key)) for key, each in value.items()}
    _expect(isinstance(value, list | tuple), value, "a list", name)
    made = [conform(each, args[0], _under(name, i)) for i, each in enumerate(value)]
    return tuple(made) if origin is tuple else made


def _fields(value: Any, kind: Any, name: str) -> Any:
    _expect(_is_mapping(value), value, "names and values", name)
    hints, optional = _hints(kind), _optional(kind)
    if missing := [key for key in hints if key not in value and key not in optional]:
        raise ValueError(f"{name or 'file'}: expected {missing[0]!r} in it, got none")
    made = {key: conform(value[key], hint, _under(name, key)) for key, hint in hints.items() if key in value}
    return {**value, **made} if is_typeddict(kind) else kind(**made)


def _either(value: Any, kinds: Sequence[Any], name: str) -> Any:
    """The first type that fits; the last one says what is wrong."""
    if value is None and NoneType in kinds:
        return None
    *others, last = [kind for kind in kinds if kind is not NoneType]
    for kind in others:
        try:
            return conform(value, kind, name)
        except ValueError:
            continue
    return conform(value, last, name)


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    _expect(isinstance(value, int | float) and not isinstance(value, bool), value, "a number", name)
    _expect(abs(value) < 1e300 or value != value, value, "a finite number", name)
    return float(value)


def _whole(value: Any, name: str) -> int:
    return _expect(isinstance(value, int) and not isinstance(value, bool), value, "a whole number", name)


def _text(value: Any, name: str) -> str:
    _expect(isinstance(value, str), value, "text", name)
    return _expect(value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value), value, "whole letters", name)


def _scalar(kind: type, words: str) -> Any:
    return lambda value, name: _expect(isinstance(value, kind), value, words, name)


SCALARS: dict[Any, Any] = {
    float: _number,
    int: _whole,
    bool: _scalar(bool, "true or false"),
    str: _text,
    NoneType: _scalar(NoneType, "nothing"),
}


def _expect(holds: bool, value: Any, expected: str, name: str) -> Any:
    if not holds:
        got = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
        raise ValueError(f"{name or 'file'}: expected {expected}, got {reason(ValueError(got))}")
    return value


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _listed(args: Sequence[Any]) -> str:
    return "one of " + ", ".join(map(str, args))


def _under(name: str, key: object) -> str:
    return reason(ValueError(f"{name}.{key}" if name else f"{key}"))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {key: get_args(hint)[0] if get_origin(hint) is NotRequired else hint for key, hint in hints.items()}


@functools.cache
def _optional(kind: Any) -> frozenset[str]:
    if is_typeddict(kind):
        return frozenset(kind.__optional_keys__)
    missing = dataclasses.MISSING
    has = (f.name for f in dataclasses.fields(kind) if f.default is not missing or f.default_factory is not missing)
    return frozenset(has)
