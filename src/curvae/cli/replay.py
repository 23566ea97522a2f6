"""A run's ``config.yaml`` as the command line that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curvae.cli.failures import UsageError

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Config:
    """What a configuration file says; empty where there is none."""

    system: str | None = None
    data: str | None = None
    system_arguments: Arguments = field(default_factory=dict)
    data_arguments: Arguments = field(default_factory=dict)
    training_arguments: Arguments = field(default_factory=dict)


def read(path: Path) -> Config:
    """The configuration in a file, or in the run folder of that path.

    Raises:
        UsageError: it is not there, or not a configuration.
    """
    import yaml

    file = path / "config.yaml" if path.is_dir() else path
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "not YAML"
        raise UsageError(f"--config: {file}: expected the config.yaml of a run, got none ({reason}).") from None
    system, data, training = (_part(found, name) for name in ("system", "data", "training"))
    if system is None or data is None or training is None:
        raise UsageError(f"--config: {file}: expected system, data and training in it; is it the config.yaml of a run?")
    return Config(
        system.get("name"),
        data.get("path") or data.get("name"),
        system.get("arguments") or {},
        {name: value for name, value in data.items() if name not in ("path", "transform")},
        training,
    )


def _part(found: Any, name: str) -> Arguments | None:
    part = found.get(name) if isinstance(found, dict) else None
    return part if isinstance(part, dict) else None
