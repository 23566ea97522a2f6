"""The files of a run in words of its own error: written whole by ``curvae.io``, read with a line on how to mend."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from curvae.io import FileError, atomic, formats
from curvae.io.errors import parsing, reason
from curvae.io.typed import conform
from curvae.training.errors import RunError

FORMAT = 2
"""Version of everything that a run folder holds; files say it, readers check it."""
READ = (1, 2)
"""Versions that are read: 1 says less of what belongs together."""
SEAL = "seal"
Content = TypeVar("Content")


def write_file(path: Path, content: bytes | memoryview | str) -> None:
    """Replace a file in one step: a reader, or a run that is killed, sees the old content or the new.

    Raises:
        RunError: the file cannot be written (disk full, no permission); what was there stays as it was.
    """
    with writing(path):
        atomic.write(path, content)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file.

    Raises:
        RunError: the file cannot be written.
    """
    with writing(path):
        atomic.append(path, line)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """
    Raises:
        RunError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        told = f"{path}: cannot be written ({reason(error)}); make room or choose another out, then start again."
        raise RunError(told) from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    write_file(path, as_yaml(value))


def as_yaml(value: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file that says its format and the digest of what it says."""
    value = json.loads(json.dumps({"format": FORMAT, **value}, allow_nan=False))
    write_json(path, {**value, SEAL: _seal(value)})


def read_json(path: Path, mend: str = "the file is damaged") -> dict[str, Any]:
    """The names and values in a JSON file.

    Raises:
        RunError: no such file, or not names and values.
    """
    return _mapping(path, formats.read_json, mend)


def read_yaml(path: Path, mend: str = "the file is damaged") -> dict[str, Any]:
    """The same of a YAML file."""
    return _mapping(path, formats.read_yaml, mend)


def check_format(path: Path, value: Mapping[str, Any]) -> None:
    """
    Raises:
        RunError: the file is of another format version.
    """
    if type(got := value.get("format")) is not int or got not in READ:
        known, writer = " or ".join(map(str, READ)), value.get("curvae")
        by = f"curvae {writer}, which" if isinstance(writer, str) else "the version of curvae that"
        raise RunError(
            f"{path}: expected format {known}, got {reason(ValueError(repr(got)))}; read it with {by} wrote it."
        )


def check_seal(path: Path, value: Mapping[str, Any], mend: str) -> None:
    """
    Raises:
        RunError: the file was changed after :func:`write_sealed`; one of format 1 has no seal.
    """
    if value.get(SEAL) != (_seal(value) if value["format"] > 1 or SEAL in value else None):
        raise RunError(f"{path}: expected what curvae wrote, got something that was changed since; {mend}.")


def conform_to(path: Path, value: Any, kind: Any, mend: str) -> Any:
    """The value as one of that type, see :func:`curvae.io.typed.conform`.

    Raises:
        RunError: it is not.
    """
    with telling(path, mend), parsing(path, "what curvae writes"):
        return conform(value, kind)


@contextmanager
def telling(path: Path, mend: str) -> Iterator[None]:
    """
    Raises:
        RunError: in place of a FileError or of a file that is not there, with a line on how to mend it.
    """
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path}: expected a file, found none; {mend}.") from None
    except FileError as error:
        raise RunError(f"{error}; {mend}.") from None


def digest(content: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _seal(value: Mapping[str, Any]) -> str:
    rest = {name: each for name, each in value.items() if name != SEAL}
    return digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _mapping(path: Path, read: Callable[[Path], Any], mend: str) -> dict[str, Any]:
    with telling(path, mend):
        value = read(path)
        if not isinstance(value, dict):
            raise FileError(f"{path}: expected names and values, got {type(value).__name__}")
    return value
