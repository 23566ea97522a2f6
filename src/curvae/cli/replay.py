"""A run's ``config.yaml`` as the command line that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from curvae.cli.failures import UsageError
from curvae.io.typed import Plain

Arguments = Mapping[str, Any]


class System(TypedDict):
    """A system in words."""

    name: NotRequired[str]
    arguments: NotRequired[dict[str, Plain]]


class Replayed(TypedDict):
    """What of a configuration is read again."""

    system: System
    data: dict[str, Plain]
    training: dict[str, Plain]


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
    from curvae.training.errors import RunError
    from curvae.training.run import files

    file = path / "config.yaml" if path.is_dir() else path
    mend = "expected the config.yaml of a run, or its folder"
    try:
        found = files.read_yaml(file, mend)
        if "format" in found:
            files.check_format(file, found)
        known = files.typed(file, found, Replayed, mend)
    except RunError as error:
        raise UsageError(f"--config: {error}") from None
    system, data = known["system"], known["data"]
    arguments = {name: value for name, value in data.items() if name not in ("path", "transform")}
    word = str(data.get("path") or data.get("name") or "") or None
    return Config(system.get("name"), word, system.get("arguments", {}), arguments, known["training"])
