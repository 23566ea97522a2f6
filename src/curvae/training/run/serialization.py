"""A system in words that JSON can hold: its name and arguments, from which the registry makes it again."""

from collections.abc import Mapping
from typing import Any

from curvae.systems import Recipe, System
from curvae.typing import DataSpec


def record(system: System) -> dict[str, Any]:
    """``{"name", "arguments"}`` of a registered system; ``{"custom", "parameters"}`` of one put together by hand.

    Arguments that JSON cannot hold are told as ``"custom: <qualified name>"``, or as class_path and init_args where
    they carry a :class:`curvae.systems.Recipe` as attribute ``recipe``. The data's spec is left out.
    """
    if system.recipe is None:
        count = sum(parameter.numel() for parameter in system.parameters())
        return {"custom": qualified_name(system), "parameters": count}
    arguments = {name: as_json(value) for name, value in system.recipe.arguments.items() if name != "spec"}
    return {"name": system.recipe.name, "arguments": arguments}


def as_json(value: Any) -> Any:
    """The value as JSON holds it.

    Example:
        >>> import torch
        >>> as_json({"sizes": (1, 2), "net": torch.nn.ReLU()})
        {'sizes': [1, 2], 'net': 'custom: torch.nn.modules.activation.ReLU'}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, DataSpec):
        return as_json(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    made = getattr(value, "recipe", None)
    if isinstance(made, Recipe):
        return {"class_path": made.name, "init_args": as_json(made.arguments)}
    return f"custom: {qualified_name(value)}"


def custom_parts(recorded: Mapping[str, Any]) -> list[str]:
    """What in a recorded system cannot be made again from the record."""
    if "custom" in recorded:
        return [str(recorded["custom"])]
    values = recorded.get("arguments", {}).items()
    return [f"{key}={value[8:]}" for key, value in values if isinstance(value, str) and value.startswith("custom: ")]


def qualified_name(value: Any) -> str:
    kind = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
