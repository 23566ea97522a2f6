"""The words DATA and RUN: what they name, opened."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvae.cli.failures import Refused, UsageError, closest
from curvae.cli.flags import Source
from curvae.cli.parsing import parse, parser

if TYPE_CHECKING:
    from torch import Tensor

    from curvae.data import ArrayTable, Data
    from curvae.systems import System
    from curvae.training import RunFolder
    from curvae.typing import DataSpec

RENAME = {"seed": "split_seed", "name": "data_name"}
"""The run has a seed and a name of its own."""


def known_set() -> Source:
    """The flags of a known data set."""
    from curvae import data

    return Source("data (a known set)", data.load, skip=frozenset({"name", "transform"}), rename=RENAME)


def own_file() -> Source:
    """The flags of a file."""
    from curvae import data

    return Source("data (your own file)", data.from_file, skip=frozenset({"path", "transform"}), rename=RENAME)


def set_name(word: str) -> str | None:
    """The known data set of this name, in either spelling of its dashes; None if it is a file.

    Raises:
        UsageError: it is neither.
    """
    from curvae import data

    spelled = {name.replace("_", "-"): name for name in data.names()}
    if found := spelled.get(word.replace("_", "-")):
        return found
    if Path(word).suffix or Path(word).exists():
        return None
    mend = closest(word, spelled) or f"; known are {', '.join(spelled)}."
    raise UsageError(f"DATA: expected a known data set or a .npy, .npz or .csv file, got {word!r}{mend}")


def open_data(word: str, arguments: Mapping[str, Any]) -> "Data":
    """The data set or file of this word."""
    from curvae import data

    name = set_name(word)
    return data.load(name, **arguments) if name else data.from_file(word, **arguments)


def open_rows(word: str, run: "RunFolder", spec: "DataSpec", options: Mapping[str, Any]) -> "ArrayTable":
    """All rows of a file in their order, or the test part of a known set, under the transform of a run.

    Args:
        word: name of a set or path of a file.
        run: whose transform, and whose columns where the options name none.
        spec: what the run's system was made for.
        options: flags of :func:`curvae.data.from_file` or :func:`curvae.data.load`; None = as in the run.

    Raises:
        Refused: data of another shape.
    """
    from curvae.data import ArrayTable, load
    from curvae.data.arrays import rows

    recipe = run.config["data"]
    if name := set_name(word):
        table = load(name, data_dir=options["data_dir"], transform=run.transform()).test
    else:
        found = _content(Path(word).expanduser(), options, recipe)
        missing = options["missing"] or recipe.get("missing", "error")
        seen = rows(word, found.x, found.labels, None, missing, None, found.columns)
        mask = None if seen.mask is None else _shaped(word, seen.mask, spec)
        table = ArrayTable(_shaped(word, seen.raw, spec), run.transform(), seen.label, mask)
    _shaped(word, table.raw, spec)
    return table


def _content(path: Path, options: Mapping[str, Any], recipe: Mapping[str, Any]) -> Any:
    """What is in a file, read as the run's file was; it need not have the labels, nor an array the names of columns."""
    from curvae.data import DataError
    from curvae.data.files import TEXT, read

    names = ("columns", "label", "key", "header")
    told = {name: recipe.get(name) if options[name] is None else options[name] for name in names}
    try:
        return read(path, **told)
    except DataError:
        if options["columns"] is not None or options["label"] is not None:
            raise
        columns = told["columns"] if any(suffix in TEXT for suffix in path.suffixes) else None
        return read(path, **told | {"label": None, "columns": columns})


def other_data(run: "RunFolder", word: str | None, folder: Path | None) -> "Data | None":
    """Data for a run to be evaluated on, under its transform; None = those of the run, where they were."""
    from curvae.data import Data, reopen
    from curvae.data.data import checksum

    if word is None and folder is None:
        return None
    if word is None:
        recipe = dict(run.config["data"]) | {"data_dir": str(folder)}
        return reopen(recipe, run.transform(), run.environment["data_checksum"])
    spec, options = read_spec(run), dict.fromkeys(("columns", "label", "key", "header", "missing"))
    table = open_rows(word, run, spec, options | {"data_dir": folder})
    return Data(table, table, table, spec, run.transform(), {"name": word}, checksum(table.raw))


def _shaped(word: str, x: "Tensor", spec: "DataSpec") -> "Tensor":
    if x[0].numel() != prod(spec.event):
        raise Refused(f"{word}: expected data of shape {spec.event}, as those of the run, got {tuple(x.shape[1:])}.")
    return x.reshape(len(x), *spec.event)


def open_run(folder: Path, trust: Sequence[str] = ()) -> "RunFolder":
    """The run in a folder.

    Raises:
        Refused: it has modules of the user's that ``trust`` does not name: a file alone must not make us import them.
    """
    from curvae.training import RunFolder

    run = RunFolder.open(existing(folder))
    recorded = run.config["system"]
    import_from_here()
    arguments = recorded.get("arguments", {})
    refuse_own(folder, arguments, trust)
    if not trust:
        return run
    return RunFolder(run.path, None, rebuilt(recorded.get("name", ""), arguments, read_spec(run)))


def refuse_own(path: Path, arguments: Any, trust: Sequence[str]) -> None:
    """
    Raises:
        Refused: a file names modules of the user's that ``trust`` does not name.
    """
    if own := [name for name in _class_paths(arguments) if not _trusted(name, trust)]:
        module = own[0].partition(".")[0]
        raise Refused(f"{path}: has a part of your own, {own[0]}; --trust {module} imports it from this folder.")


def trust_of(system: "System") -> str:
    """The flag with which a file may name the system's own modules again; "" where it has none."""
    from curvae.training.run.config import record

    own = {name.partition(".")[0] for name in _class_paths(record(system).get("arguments")) if not _trusted(name, ())}
    return f" --trust {','.join(sorted(own))}" if own else ""


def existing(run: Path | str) -> Path:
    """The folder of a run, if it is one.

    Raises:
        Refused: there is no folder, or it is not that of a run.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise Refused(f"{folder}: expected the folder of a run, got none there; name what curvae fit --out named.")
    if not (folder / "config.yaml").is_file():
        raise Refused(f"{folder}: expected the folder of a run, got one without config.yaml; name another.")
    return folder


def read_spec(run: "RunFolder") -> "DataSpec":
    """What the run's system was made for."""
    from curvae.training.run import layout
    from curvae.typing import DataSpec

    return DataSpec(**layout.read(run.path, layout.MODEL)["spec"])


def rebuilt(name: str, arguments: Mapping[str, Any], spec: "DataSpec") -> "System":
    """The system that a run's configuration describes, with modules of the user's."""
    source = system_flags(name)
    made = parser(name, "", "", [], [source])
    return built(source, made, parse(made, [], source.renamed(arguments)), spec)


def system_flags(name: str) -> Source:
    """The flags of a system; its ``spec`` comes from the data.

    Raises:
        UsageError: no such system.
    """
    from curvae import registry

    try:
        return Source(name, registry.system(name), skip=frozenset({"spec"}))
    except ValueError as error:
        raise UsageError(str(error).replace("system:", "SYSTEM:", 1)) from None


def built(source: Source, made: Any, chosen: Any, spec: "DataSpec") -> "System":
    """The system of these flags; modules of the user's remember how they were made, for the run's configuration."""
    from torch import nn

    from curvae.systems import Recipe

    arguments, flag_of = source.arguments(made.instantiate(chosen)), {f.parameter: f.dest for f in source.flags()}
    for name, module in arguments.items():
        if isinstance(module, nn.Module):
            described = chosen[flag_of[name]].as_dict()
            object.__setattr__(module, "recipe", Recipe(described["class_path"], described.get("init_args", {})))
    return source.function(spec, **arguments)


def import_from_here() -> None:
    """Let modules of the user's be found in the working folder, after all that is installed."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def _class_paths(value: Any) -> Iterator[str]:
    """Every word in the arguments of a system that could be the path of a class."""
    if isinstance(value, str) and re.fullmatch(r"[^\W\d]\w*(\.\w+)+", value):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _class_paths(part)


def _trusted(path: str, trust: Sequence[str]) -> bool:
    from curvae import registry

    return path.startswith((*registry.TRUSTED, *(f"{module}." for module in trust)))
