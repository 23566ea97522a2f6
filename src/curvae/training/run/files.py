"""Writing files whole or not at all, and reading the small ones."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from curvae.training.errors import RunError

FORMAT = 1
"""Version of everything that a run folder holds; files say it, readers check it."""


def write(path: Path, content: bytes | memoryview | str) -> None:
    """Replace a file in one step: a reader, or a run that is killed, sees the old content or the new.

    Raises:
        RunError: the file cannot be written (disk full, no permission); what was there stays as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def append(path: Path, line: str) -> None:
    """Add a line to a text file.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        with path.open("a", newline="") as file:
            file.write(line)
    except OSError as error:
        raise _unwritable(path, error) from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    write(path, yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: no such file, or not a JSON object.
    """
    try:
        value = json.loads(_text(path))
    except ValueError as error:
        raise RunError(f"{path}: expected JSON, got something else ({error}); the file is damaged.") from None
    return _object(path, value)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RunError: no such file, or not a YAML mapping.
    """
    try:
        value = yaml.safe_load(_text(path))
    except yaml.YAMLError:
        raise RunError(f"{path}: expected YAML, got something else; the file is damaged.") from None
    return _object(path, value)


def check_format(path: Path, value: Mapping[str, Any]) -> None:
    """
    Raises:
        RunError: the file is of another format version.
    """
    if value.get("format") != FORMAT:
        raise RunError(
            f"{path}: expected format {FORMAT}, got {value.get('format')!r}; read it with the version of curvae that "
            "wrote it."
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"{path}: expected a file, found none; is this the folder of a run?") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read as text ({error}).") from None


def _object(path: Path, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a mapping, got {type(value).__name__}; the file is damaged.")
    return value


def _unwritable(path: Path, error: OSError) -> RunError:
    reason = error.strerror or str(error)
    return RunError(f"{path}: cannot be written ({reason}); make room or choose another out, then start again.")
