"""The words DATA and RUN: what they name, opened."""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvae.cli.errors import CommandError, UsageError, did_you_mean
from curvae.cli.flags import Source
from curvae.cli.parsing import in_flags, parse, parser
from curvae.io.reading import READ_FROM_FILES, Reading

if TYPE_CHECKING:
    from curvae.data import Data
    from curvae.systems import System
    from curvae.training import RunFolder
    from curvae.typing import DataSpec

DATA_FLAGS = (*READ_FROM_FILES, "missing", "support", "standardize")
"""Arguments of what reads data that are flags of the same names."""
RENAME = {"seed": "split_seed", "name": "data_name"}
"""The run has a seed and a name of its own."""


def known_set() -> Source:
    """The flags of a known data set."""
    from curvae import data

    return Source("data (a known set)", data.load, skip=frozenset({"name", "transform"}), rename=RENAME)


def own_file() -> Source:
    """The flags of a file."""
    from curvae import data

    return Source(
        "data (your own file)", data.from_file, skip=frozenset({"path", "transform", "data_dir"}), rename=RENAME
    )


def known_set_of(word: str) -> str | None:
    """The known data set of this name, in either spelling of its hyphens; None if it is a file.

    Raises:
        UsageError: it is neither.
    """
    from curvae.data import DataError
    from curvae.data.datasets.known_sets import known, names

    try:
        return known(word)
    except DataError:
        spelled = [name.replace("_", "-") for name in names()]
        mend = did_you_mean(word.lower().replace("_", "-"), spelled) or f"; known are {', '.join(spelled)}."
        got = f"got {word!r}{mend}"
        raise UsageError(f"DATA: expected a known data set or a .npy, .csv, .parquet or other file, {got}") from None


def open_data(word: str, arguments: Mapping[str, Any]) -> "Data":
    """The data set or file of this word."""
    from curvae import data

    name = known_set_of(word)
    with noted():
        return data.load(name, **arguments) if name else data.from_file(word, **arguments)


def other_data(run: "RunFolder", word: str | None, folder: Path | None) -> "Data | None":
    """Data for a run to be evaluated on, under its transform; None = those of the run, where they were."""
    from curvae.data import Data
    from curvae.data.data import checksum
    from curvae.fitted.rows import rows_of

    if word is None:
        return None if folder is None else run.data(folder)
    known_set_of(word)
    with noted():
        table = rows_of(run, word, reading=Reading(data_dir=folder)).table
    schema = run.schema
    return Data(table, table, table, schema.spec, run.transform(), {"name": word}, checksum(table.raw), schema)


@contextmanager
def noted() -> Iterator[None]:
    """What was left out or decided of data is told in a line each on stderr."""
    from curvae.data import DataWarning

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DataWarning)
        yield
    for warning in said:
        if issubclass(warning.category, DataWarning):
            line = in_flags(str(warning.message), DATA_FLAGS)
            print(f"curvae: note: {line}", file=sys.stderr)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def open_run(folder: Path, trust: Sequence[str] = ()) -> "RunFolder":
    """The run in a folder.

    Raises:
        CommandError: it has modules of the user's that ``trust`` does not name: a file alone must not make us import
            them.
    """
    from curvae.training import RunFolder
    from curvae.training.run.serialization import custom_parts

    run = RunFolder.open(existing(folder))
    recorded = run.config["system"]
    import_from_here()
    arguments = recorded.get("arguments", {})
    refuse_own(folder, arguments, trust)
    if not trust or custom_parts(recorded):  # which loading refuses by name
        return run
    return RunFolder(run.path, None, rebuilt(recorded.get("name", ""), arguments, run.schema.spec))


def refuse_own(path: Path, arguments: Any, trust: Sequence[str]) -> None:
    """
    Raises:
        CommandError: a file names modules of the user's that ``trust`` does not name.
    """
    if own := [name for name in _class_paths(arguments) if not _trusted(name, trust)]:
        module = own[0].partition(".")[0]
        raise CommandError(f"{path}: has a part of your own, {own[0]}; --trust {module} imports it from this folder.")


def trust_of(system: "System") -> str:
    """The flag with which a file may name the system's own modules again; "" where it has none."""
    from curvae.training.run.serialization import record

    own = {name.partition(".")[0] for name in _class_paths(record(system).get("arguments")) if not _trusted(name, ())}
    return f" --trust {','.join(sorted(own))}" if own else ""


def existing(run: Path | str) -> Path:
    """The folder of a run, if it is one.

    Raises:
        CommandError: there is no folder, or it is not that of a run.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise CommandError(f"{folder}: expected the folder of a run, got none there; name what curvae fit --out named.")
    if not (folder / "config.yaml").is_file():
        raise CommandError(f"{folder}: expected the folder of a run, got one without config.yaml; name another.")
    return folder


def rebuilt(name: str, arguments: Mapping[str, Any], spec: "DataSpec") -> "System":
    """The system that a run's configuration describes, with modules of the user's."""
    source = system_flags(name)
    made = parser(f"fit {name}", "", "", [], [source])
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


def refuse_unlisted(name: str, replayed: str | None) -> None:
    """
    Raises:
        UsageError: what a run may be made of again, and nobody trains from the beginning.
    """
    from curvae import registry

    if name in registry.UNLISTED and name != replayed:
        raise UsageError(f"SYSTEM: expected one that is trained, got {name!r}; curvae adopt takes one that has been.")


def training_flags() -> Source:
    """The flags of training, whatever is trained."""
    from curvae.fitted import fit

    return Source("training", fit, skip=frozenset({"system", "data", "label", "restarts", "options"}))


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
