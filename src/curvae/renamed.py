"""Public names of before: they still lead to what took their place, with a warning."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__``: from names of before to the full names of today.

    Example:
        >>> find = renamed("curvae.noise", {"normal": "curvae.noise.noise"})
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     found = find("normal")
        >>> found.__name__, str(told[0].message)
        ('noise', 'curvae.noise.normal is now curvae.noise.noise.')
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        where, _, new = names[name].rpartition(".")
        warnings.warn(f"{module}.{name} is now {names[name]}.", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(where), new)

    return find
