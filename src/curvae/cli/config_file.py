"""A run's ``config.yaml`` as the command line that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from curvae.cli.errors import UsageError
from curvae.io.typed import Plain
from curvae.progress import say

if TYPE_CHECKING:
    from curvae.data.schema import Origin

Arguments = Mapping[str, Any]


class NamedSystem(TypedDict):
    """A system in words."""

    name: NotRequired[str]
    arguments: NotRequired[dict[str, Plain]]


class Replayed(TypedDict):
    """What of a configuration is read again."""

    system: NamedSystem
    data: dict[str, Plain]
    training: dict[str, Plain]


@dataclass(frozen=True)
class ReplayedConfig:
    """What a configuration file says; empty where there is none."""

    system: str | None = None
    data: str | None = None
    system_arguments: Arguments = field(default_factory=dict)
    data_arguments: Arguments = field(default_factory=dict)
    training_arguments: Arguments = field(default_factory=dict)


def read_config(path: Path) -> ReplayedConfig:
    """The configuration in a file, or in the run folder of that path.

    Files of data are looked for where the run had them, wherever this is called from.

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
        if "warm_start" in found:
            raise RunError(f"{file}: began at the weights of another run; say curvae fit --from that RUN DATA again.")
        if "refit" in found:
            raise RunError(f"{file}: is of a run on all rows of another; say curvae fit --refit that RUN again.")
        known = files.conform_to(file, found, Replayed, mend)
        places = _places(file.parent, known["data"])
    except RunError as error:
        raise UsageError(f"--config: {error}") from None
    system, data = known["system"], known["data"] | places
    arguments = {name: value for name, value in data.items() if name not in ("path", "transform")}
    word = str(data.get("path") or data.get("name") or "") or None
    return ReplayedConfig(system.get("name"), word, _taken(system), arguments, known["training"])


def _taken(system: NamedSystem) -> Arguments:
    """The arguments of a system under their names of today; of those that are gone a line is said."""
    from curvae import registry

    name, arguments = system.get("name", ""), system.get("arguments", {})
    for key in sorted(registry.GONE.get(name, set()) & {key for key, value in arguments.items() if value}):
        say(f"--config: {name} has no {key} any more; what is trained is {name} without it.")
    return registry.current(name, arguments)


def _places(folder: Path, data: Mapping[str, Plain]) -> dict[str, Plain]:
    """Where the file of the data and that of a test part are, of those that a configuration names."""
    from curvae.data.schema import Origin
    from curvae.training import RunFolder
    from curvae.training.run import layout

    named = {name: str(data[name]) for name in ("path", "test") if data.get(name)}
    if named and (folder / layout.SCHEMA).is_file():
        origins = RunFolder(folder).schema.origins
    else:
        origins = [replace(Origin.of(word), near=word) for word in named.values()]
    return {name: _place(origin, folder) for name, origin in zip(named, origins, strict=False)}


def _place(origin: "Origin", folder: Path) -> str:
    """As it was named where that leads there from here, too; where there is none, the place in which it was."""
    here, found = Path(origin.given).expanduser(), origin.candidates(folder)[0]
    return origin.given if here.exists() and here.samefile(found) else str(found)
