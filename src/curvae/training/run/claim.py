"""Claiming a run folder: a new one, or one to go on with; anything else is left as it is."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from curvae.training.errors import RunError
from curvae.training.run import files

RUNS = Path("runs")


def next_name(stem: str) -> Path:
    """``runs/<stem>-<n>``, n the first number that is free."""
    stem = re.sub(r"[^\w.-]+", "-", stem)
    count = 1
    while (path := RUNS / f"{stem}-{count}").exists():
        count += 1
    return path


def claim(path: Path, config: Mapping[str, Any], environment: Mapping[str, Any], fill: Callable[[Path], None]) -> None:
    """Make the folder of a new run, or see that what is there is this run, unfinished.

    Args:
        path: the folder.
        config: the run's configuration.
        environment: where it runs; of an earlier run only the data's checksum must be the same.
        fill: writes what else a new folder holds from the start.

    Raises:
        RunError: the folder holds something else, a run of another configuration or other data, or a finished run; it
            is left untouched.
    """
    if path.is_dir() and any(path.iterdir()):
        _check_same(path, config, environment)
    elif path.exists() and not path.is_dir():
        raise RunError(f"out: expected a folder, got the file {path}; choose another out.")
    else:
        _create(path, config, environment, fill)


def _create(
    path: Path, config: Mapping[str, Any], environment: Mapping[str, Any], fill: Callable[[Path], None]
) -> None:
    """All first files at once: a run killed here leaves no half-made folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise RunError(f"out: {path} cannot be made ({error.strerror}); choose another out.") from None
    try:
        files.write_yaml(fresh / "config.yaml", config)
        files.write_json(fresh / "environment.json", environment)
        files.write_json(fresh / "status.json", {"state": "running", "stage": 0, "epoch": 0, "step": 0, "reason": None})
        fill(fresh)
        fresh.chmod(0o755)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_same(path: Path, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    if not all((path / name).is_file() for name in ("config.yaml", "status.json", "environment.json")):
        raise RunError(f"out: {path} holds something that is not a run of curvae; it was left untouched. {OTHER}")
    old = files.read_yaml(path / "config.yaml")
    if difference := _difference(old, config):
        raise RunError(f"out: {path} holds a run of another configuration ({difference}); left untouched. {OTHER}")
    checksum = files.read_json(path / "environment.json").get("data_checksum")
    if checksum != environment["data_checksum"]:
        raise RunError(f"out: {path} holds a run on other data (another checksum); it was left untouched. {OTHER}")
    if files.read_json(path / "status.json").get("state") == "finished":
        raise RunError(f"out: the run in {path} is finished already; it was left untouched. {OTHER}")


OTHER = "Choose another out."


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """The first value that differs, in words; "" if none. The version of curvae does not count."""
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            if found := _difference(before, after, f"{prefix}{key}."):
                return found
        elif before != after and prefix + key != "curvae":
            return f"{prefix}{key} was {before!r}, is {after!r}"
    return ""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Keep other processes from training in the same folder; a process that dies lets go.

    Raises:
        RunError: another process is at it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no such lock
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise RunError(f"out: another process is training in {path}; wait for it, or choose another out.") from None
    try:
        yield
    finally:
        os.close(handle)
