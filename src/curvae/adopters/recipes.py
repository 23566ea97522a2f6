"""Networks in words that a file can hold: those made of layers of torch, and our own."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from curvae import registry
from curvae.likelihoods import Gaussian
from curvae.systems import Recipe

Network = TypeVar("Network", bound=nn.Module)
IGNORED = ("device", "dtype")
"""Arguments of layers that their weights say."""
ANY, ANY_NAMED = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
FLAGS = ("bias",)
"""Arguments that say whether there is a parameter of that name."""


def with_recipe(network: Network) -> Network:
    """The network, which then knows how it can be made again, where that can be told; see :func:`recipe_of`."""
    if not isinstance(getattr(network, "recipe", None), Recipe) and (found := recipe_of(network)) is not None:
        object.__setattr__(network, "recipe", found)
    return network


def recipe_of(network: nn.Module) -> Recipe | None:
    """How a network can be made again, weights apart; None where a file cannot tell.

    A file can tell of layers of ``torch.nn`` that keep their arguments as attributes, of them in ``nn.Sequential``, and
    of modules of ours; it is tried, and must give parameters of the same names and shapes. It cannot tell of classes of
    the user's own, of weights that two layers share, and of what was changed after a layer was made.

    Example:
        >>> recipe_of(nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU())).name
        'curvae.networks.Layers'
        >>> class Own(nn.Module): ...
        >>> recipe_of(Own()) is None
        True
    """
    if len([*network.named_modules()]) != len([*network.named_modules(remove_duplicate=False)]):
        return None
    found = _recipe(network)
    return found if found is not None and _same(network, found) else None


def _recipe(network: nn.Module) -> Recipe | None:
    if isinstance(made := getattr(network, "recipe", None), Recipe):
        return made
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        layers = [_as_value(each) for each in network]
        return None if None in layers else Recipe("curvae.networks.Layers", {"layers": layers})
    if (path := _path(type(network))) is None:
        return None
    try:
        return Recipe(path, {name: _argument(network, name) for name in _names(network)})
    except (AttributeError, TypeError):
        return None


def _path(kind: type) -> str | None:
    """Where a class of torch or of ours is imported from."""
    if getattr(nn, kind.__name__, None) is kind:
        return f"torch.nn.{kind.__name__}"
    package = kind.__module__.rpartition(".")[0]
    if not kind.__module__.startswith("curvae."):
        return None
    public = getattr(sys.modules.get(package), kind.__name__, None) is kind
    return f"{package if public else kind.__module__}.{kind.__name__}"


def _names(network: nn.Module) -> list[str]:
    known = inspect.signature(type(network)).parameters
    names = [name for name, each in known.items() if name not in IGNORED and each.kind not in (ANY, ANY_NAMED)]
    if isinstance(network, Gaussian) and network.learn is None:  # which then has no floor
        names.remove("floor")
    return names


def _argument(network: nn.Module, name: str) -> Any:
    """What a layer was given, as it keeps it.

    Raises:
        AttributeError: it keeps nothing of this name.
        TypeError: it is nothing that a file can hold.
    """
    value = getattr(network, name)
    if name in FLAGS and (value is None or isinstance(value, torch.Tensor)):
        return value is not None
    if isinstance(value, nn.Module):
        if (found := _as_value(value)) is None:
            raise TypeError(name)
        return found
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(type(value).__name__)


def _as_value(network: nn.Module) -> Mapping[str, Any] | None:
    found = _recipe(network)
    return None if found is None else {"class_path": found.name, "init_args": dict(found.arguments)}


def _same(network: nn.Module, recipe: Recipe) -> bool:
    """Whether the recipe gives parameters and buffers of the same names, shapes and types."""
    make: Callable[[Any], nn.Module] = registry.make
    try:
        with torch.random.fork_rng(devices=[]):
            made = make({"class_path": recipe.name, "init_args": dict(recipe.arguments)})
    except Exception:  # a layer's own complaint of what it keeps of its arguments
        return False
    ours, theirs = (
        {name: (value.shape, value.dtype) for name, value in each.state_dict().items()} for each in (network, made)
    )
    hooks = any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())
    return ours == theirs and not hooks
