"""Names: the one place, beside the command line, where a string becomes a system or a module."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from curvae import systems as _systems
from curvae.systems.base import PURPOSES, SYSTEMS
from curvae.typing import DataSpec

System = _systems.System

TRUSTED = ("curvae.", "torch.nn.")
"""Where a class named in a file may come from: reading a file must not run somebody else's code."""

GONE = {"vlae": {"budget"}}
"""Arguments of before, which runs have recorded and which change nothing of a system's weights."""

UNLISTED: Mapping[str, Callable[..., System]] = {"adopted": _systems.adopted}
"""What makes systems that runs hold and nobody asks for by name."""

RENAMED = {
    "sa-vae": {"imitate": "kl_weight", "through": "unroll"},
    "hvae": {"varied": "per_step"},
    "class_path": {
        "curvae.networks.TopDown": "curvae.networks.TopDownDecoder",
        "curvae.networks.Lowest": "curvae.networks.LastBlock",
    },
}
"""Names of before, of a system's arguments and of classes, and those that took their places."""


def system(name: str) -> Callable[..., System]:
    """The function that builds the system of this name.

    Raises:
        ValueError: no such system.

    Example:
        >>> system("vlae").__name__
        'vlae'
        >>> system("vlea")
        Traceback (most recent call last):
        ...
        ValueError: system: expected one of ...; got 'vlea'. Did you mean 'vlae'?
    """
    if name in SYSTEMS or name in UNLISTED:
        return SYSTEMS.get(name) or UNLISTED[name]
    close = difflib.get_close_matches(name, SYSTEMS, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"system: expected one of {', '.join(systems())}; got {name!r}.{hint}")


def systems(purpose: str | None = None) -> tuple[str, ...]:
    """The names of all systems, or of those that serve a purpose (:data:`curvae.systems.base.Purpose`), sorted."""
    return tuple(sorted(name for name in SYSTEMS if purpose in (None, PURPOSES[name])))


def describe_system(name: str) -> tuple[str, str]:
    """A system in one line, and its reference ("" if its docstring has none).

    Raises:
        ValueError: no such system.

    Example:
        >>> describe_system("vae")[1]
        'Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014.'
    """
    paragraphs = (inspect.getdoc(system(name)) or "").split("\n\n")
    reference = next((" ".join(part.split()) for part in paragraphs if part.startswith("Reference:")), "")
    return paragraphs[0].split("\n")[0], reference.removeprefix("Reference:").strip().replace("*", "")


def build(name: str, arguments: Mapping[str, Any], spec: DataSpec | Mapping[str, Any]) -> System:
    """A system from what a run's files say of it; networks given as class_path and init_args are made again.

    Raises:
        ValueError: no such system, or arguments that it does not take.
    """
    spec = spec if isinstance(spec, DataSpec) else DataSpec.from_dict(spec)
    builder = system(name)
    made = {key: make(value) for key, value in current(name, arguments).items()}
    try:
        inspect.signature(builder).bind(spec, **made)
    except TypeError as error:
        raise ValueError(f"system {name!r}: {error}; was it saved by another version?") from None
    return builder(spec, **made)


def current(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded arguments of a system under their names of today, without those that are gone.

    Example:
        >>> current("sa-vae", {"latent": 2, "imitate": 0.5})
        {'latent': 2, 'kl_weight': 0.5}
    """
    gone, renamed = GONE.get(name, ()), RENAMED.get(name, {})
    return {renamed.get(key, key): value for key, value in arguments.items() if key not in gone}


def make(value: Any) -> Any:
    """A module that a file describes by class_path and init_args; any other value as it is.

    Raises:
        ValueError: a class that is neither of torch.nn nor ours.

    Example:
        >>> make({"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 2}})
        Linear(in_features=3, out_features=2, bias=True)
    """
    if not (isinstance(value, Mapping) and "class_path" in value):
        return value
    path = str(value["class_path"])
    path = RENAMED["class_path"].get(path, path)
    module, _, leaf = path.rpartition(".")
    kind = getattr(importlib.import_module(module), leaf, None) if path.startswith(TRUSTED) else None
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise ValueError(f"class_path: expected a module of curvae or torch.nn, got {path!r}; pass system= instead.")
    arguments = value.get("init_args", {})
    made = kind(**{key: _argument(each) for key, each in arguments.items()})
    object.__setattr__(made, "recipe", _systems.Recipe(path, arguments))
    return made


def _argument(value: Any) -> Any:
    """What a module is given: JSON knows no tuples, which sizes are."""
    return tuple(map(_argument, value)) if isinstance(value, list) else make(value)
