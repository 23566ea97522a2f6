"""Signatures to flags: the signature of a function *is* its configuration, its docstring is the help."""

import csv
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

SCALARS = {int: "N", float: "X", str: "TEXT", Path: "PATH", bool: ""}
"""Types that a word on the command line can have, with the word that stands for it in the help."""

COMMON = {
    "run": "folder of a run, as --out named it",
    "force": "write over an existing file",
    "progress": "show how it goes on stderr: a bar, or a line every 30 s without a terminal",
    "trust": "modules of your own that the run has parts of",
}
"""What a flag does whose function does not say it."""


class Flag(NamedTuple):
    """One parameter of a function as a flag."""

    parameter: str
    dest: str
    type: Any
    default: Any
    help: str
    required: bool = False

    @property
    def option(self) -> str:
        return "--" + self.dest.replace("_", "-")


@dataclass(frozen=True)
class Source:
    """A function whose parameters become flags; those without a default become words in their order.

    Args:
        title: of the group of flags.
        function: the function; parameters of types that no word can have are left out.
        skip: parameters that come from somewhere else.
        rename: parameter to the name of its flag, where two functions use the same word.
    """

    title: str
    function: Callable[..., Any]
    skip: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)

    def flags(self) -> Iterator[Flag]:
        """The flags of the function, in the order of its signature."""
        helps = _helps(self.function)
        for name, parameter in inspect.signature(self.function, eval_str=True).parameters.items():
            if (options := _options(parameter.annotation)) is not None and name not in self.skip:
                yield from Source(self.title, options, self.skip, self.rename).flags()
            if name in self.skip or (kind := _kind(parameter.annotation)) is None:
                continue
            required = parameter.default is parameter.empty
            default = None if required else parameter.default
            yield Flag(name, self.rename.get(name, name), kind, default, helps.get(name, ""), required)

    def arguments(self, chosen: Any) -> dict[str, Any]:
        """What was chosen, by parameter of the function."""
        return {flag.parameter: chosen[flag.dest] for flag in self.flags()}

    def renamed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the function by flag: the way back from a configuration file."""
        return {flag.dest: arguments[flag.parameter] for flag in self.flags() if flag.parameter in arguments}


class Listed:
    """A type of a flag: values with commas between them.

    >>> Listed((int, str))('0,-1,petal width,"mass, kg"')
    [0, -1, 'petal width', 'mass, kg']
    """

    def __init__(self, types: Sequence[Any]):
        self.readers = [reader for reader in (int, float, str) if reader in types]
        self.__name__ = " or ".join(reader.__name__ for reader in self.readers)

    def __call__(self, value: Any) -> list[Any]:
        words = next(csv.reader([value], skipinitialspace=True), []) if isinstance(value, str) else value
        return [self._read(word) for word in words]

    def _read(self, word: Any) -> Any:
        for reader in self.readers:
            try:
                return reader(word)
            except ValueError:
                continue
        raise ValueError(f"Expected a {self.__name__} between commas. Got value: {word}")


def metavar(kind: Any) -> str:
    """The word that stands for a value of this type in the help."""
    if isinstance(kind, Listed):
        return "X,Y" if float in kind.readers else "A,B,..."
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if _is_union(kind):
        words = dict.fromkeys(map(metavar, get_args(kind)))
        return "|".join(word for word in words if word != "CLASS" or "TEXT" not in words)  # a word, or one of your own
    return SCALARS.get(kind, "CLASS")


def unmarked(text: str) -> str:
    """Text of a docstring for the terminal: no roles, no backticks, one line.

    >>> unmarked("one of :func:`names`,\\n    by ``data``.")
    'one of names, by data'
    """
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(text.split()))
    return text.replace("`", "").replace("*", "").rstrip(".")


def _kind(hint: Any) -> Any:
    """The type of a flag for a parameter annotated like this; None where no word can have it."""
    options = get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        if get_origin(option) in (list, tuple, Sequence):
            inner = [scalar for part in get_args(option) for scalar in (get_args(part) if _is_union(part) else (part,))]
            return Listed(inner) if any(scalar in SCALARS for scalar in inner) else None
    kept = [option for option in options if option in SCALARS or get_origin(option) is Literal or _is_module(option)]
    if Path in kept and str in kept:
        kept.remove(str)
    kept.sort(key=lambda option: option is str)  # every word is text: try the others first
    return reduce(or_, kept) if kept else None


def _options(hint: Any) -> Any:
    """The dataclass of options that a parameter takes, whose single ones its function takes by name too; else None."""
    parts = get_args(hint) if _is_union(hint) else (hint,)
    return next((part for part in parts if is_dataclass(part) and NoneType in parts), None)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _is_module(hint: Any) -> bool:
    """Whether it is a class of modules; where torch is not imported, it cannot be one."""
    torch = sys.modules.get("torch")
    return torch is not None and inspect.isclass(hint) and issubclass(hint, torch.nn.Module)


def _helps(function: Callable[..., Any]) -> dict[str, str]:
    """Help of every parameter, from the docstring's Args, else that of all commands."""
    from docstring_parser import DocstringStyle, parse

    described = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    return COMMON | {item.arg_name: unmarked(item.description or "") for item in described.params}
