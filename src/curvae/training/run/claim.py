"""Claiming a run folder: a new one, or one to go on with; anything else is left as it is."""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from curvae.io import atomic
from curvae.io.errors import reason
from curvae.training.errors import FinishedError, RunError
from curvae.training.run import files, layout

RUNS = Path("runs")
OTHER = "Choose another out."
BESIDE = ("curvae", "format", "callbacks", "replayable", "adopted.difference")
"""What may differ in the configuration of a run that is taken up again."""


def next_name(stem: str) -> Path:
    """``runs/<stem>-<n>``, n the first number that is free."""
    stem = re.sub(r"[^\w.-]+", "-", stem)
    count = 1
    while (path := RUNS / f"{stem}-{count}").exists() or starts_of(path).exists():
        count += 1
    return path


@contextlib.contextmanager
def claimed(
    path: Path, config: Mapping[str, Any], environment: Mapping[str, Any], fill: Callable[[Path], None]
) -> Iterator[None]:
    """Hold the folder of a new run, or of this run, unfinished; no other process trains in it meanwhile.

    What is there is looked at under the lock, so that a run which another process finishes just now is finished. The
    death of a process lets go, and what it left half written is swept by the next one.

    Args:
        path: the folder.
        config: the run's configuration.
        environment: where it runs; of an earlier run only the data's checksum must be the same.
        fill: writes what else a new folder holds from the start.

    Raises:
        RunError: the folder holds something else, a run of another configuration or other data, or a finished run, or
            another process trains in it; it is left untouched.
    """
    if _is_free(path):
        if starts_of(path).exists():  # a single fit would be in their way
            raise RunError(
                f"out: {starts_of(path)} holds starts that have not ended; go on with them by the same restarts, or "
                f"remove that folder. {OTHER}"
            )
        handle = _created(path, config, environment, fill)
    else:
        handle = _taken_up(path, config, environment)
    try:
        atomic.remove_stale(path)
        yield
    finally:
        atomic.remove_stale(path)
        atomic.unlock(handle)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a folder that is there for a moment.

    Raises:
        RunError: another process trains in it.
    """
    handle = _locked(path)
    try:
        yield
    finally:
        atomic.unlock(handle)


def starts_of(path: Path) -> Path:
    """The folder beside that of a run, in which several starts of it are trained."""
    return path.with_name(f"{path.name}.starts")


def start_of(path: Path, seed: int) -> Path:
    """The folder of one of them."""
    return starts_of(path) / f"seed-{seed}"


def discard(path: Path, seeds: Iterable[int]) -> None:
    """Remove these starts of a run, and their folder where nothing else is in it."""
    for seed in seeds:
        shutil.rmtree(start_of(path, seed), ignore_errors=True)
    with contextlib.suppress(OSError):
        starts_of(path).rmdir()


def require_free(path: Path) -> None:
    """What a process that was killed left of the starts of a finished run is removed.

    Raises:
        RunError: it holds something already; it is left untouched.
    """
    if _is_free(path):
        return
    if not (path / layout.STATUS).is_file():
        raise RunError(f"out: {path} holds something that is not a run of curvae; it was left untouched. {OTHER}")
    if (path / layout.RESTARTS).is_file():
        discard(path, (each["seed"] for each in layout.read_document(path, layout.RESTARTS)["starts"]))
    if layout.read_document(path, layout.STATUS)["state"] == "finished":
        raise FinishedError(f"out: the run in {path} is finished already; it was left untouched. {OTHER}")
    raise RunError(f"out: {path} holds an unfinished run of a single start; it was left untouched. {OTHER}")


def move_run(folder: Path, path: Path) -> None:
    """Give the folder of a run its final place.

    Raises:
        RunError: something is there, or it cannot be written.
    """
    try:
        atomic.move(folder, path)
    except OSError as error:
        raise RunError(f"out: {path} cannot be made ({reason(error)}); choose another out.") from None


def _is_free(path: Path) -> bool:
    if path.exists() and not path.is_dir():
        raise RunError(f"out: expected a folder, got the file {path}; choose another out.")
    return not path.exists() or not any(path.iterdir())


def _created(
    path: Path, config: Mapping[str, Any], environment: Mapping[str, Any], fill: Callable[[Path], None]
) -> int | None:
    """All first files at once: a run killed here leaves no half-made folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.remove_stale(path.parent)
        with atomic.new_folder(path) as (fresh, handle):
            files.write_yaml(fresh / layout.CONFIG, config)
            files.write_json(fresh / layout.ENVIRONMENT, environment)
            status = {"state": "running", "stage": 0, "epoch": 0, "step": 0, "reason": None}
            files.write_json(fresh / layout.STATUS, status)
            fill(fresh)
        return handle
    except FileExistsError:  # another process was faster
        return _taken_up(path, config, environment)
    except OSError as error:
        raise RunError(f"out: {path} cannot be made ({reason(error)}); choose another out.") from None


def _taken_up(path: Path, config: Mapping[str, Any], environment: Mapping[str, Any]) -> int | None:
    handle = _locked(path)
    try:
        _check_same(path, config, environment)
        _add_callbacks(path, config)
    except BaseException:
        atomic.unlock(handle)
        raise
    return handle


def _locked(path: Path) -> int | None:
    try:
        return atomic.lock(path)
    except BlockingIOError:
        raise RunError(f"out: another process is training in {path}; wait for it, or choose another out.") from None
    except OSError as error:
        raise RunError(f"out: {path} cannot be opened ({reason(error)}); choose another out.") from None


def _check_same(path: Path, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    if not all((path / name).is_file() for name in (layout.CONFIG, layout.STATUS, layout.ENVIRONMENT)):
        raise RunError(f"out: {path} holds something that is not a run of curvae; it was left untouched. {OTHER}")
    old = layout.read_document(path, layout.CONFIG)
    if difference := _difference(old, config):
        raise RunError(f"out: {path} holds a run of another configuration ({difference}); left untouched. {OTHER}")
    if layout.read_document(path, layout.ENVIRONMENT)["data_checksum"] != environment["data_checksum"]:
        raise RunError(f"out: {path} holds a run on other data (another checksum); it was left untouched. {OTHER}")
    if layout.read_document(path, layout.STATUS)["state"] == "finished":
        raise FinishedError(f"out: the run in {path} is finished already; it was left untouched. {OTHER}")
    if old["format"] != files.FORMAT:
        raise RunError(
            f"out: {path} holds an unfinished run of curvae {old['curvae']} (format {old['format']}); go on with it "
            f"there. {OTHER}"
        )


def _add_callbacks(path: Path, config: Mapping[str, Any]) -> None:
    """Those that the run did not begin with are written down too."""
    old = layout.read_document(path, layout.CONFIG)
    every = sorted({*(known := old.get("callbacks", [])), *config.get("callbacks", [])})
    if every != known:
        files.write_yaml(path / layout.CONFIG, {**old, "callbacks": every, "replayable": False})


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """The first value that differs, in words; "" if none. Who looks on and the version of curvae do not count."""
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            if found := _difference(before, after, f"{prefix}{key}."):
                return found
        elif before != after and prefix + key not in BESIDE:
            return f"{prefix}{key} was {before!r}, is {after!r}"
    return ""
