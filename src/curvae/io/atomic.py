"""Files written whole or not at all: under a name that nobody can guess, then moved into their place."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

BEGUN = re.compile(r"\.curvae-[0-9a-f]{16}(\.\w+)?")
"""Names of what is being written; :func:`remove_stale` removes those whose writer is dead."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def write(path: Path, content: bytes | memoryview | str) -> None:
    """Replace a file in one step: a reader, or a process that is killed, leaves the old content or the new.

    Raises:
        OSError: it cannot be written; what was there stays as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as beside, open(os.open(beside, os.O_WRONLY | NO_LINK), "wb") as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to be filled, which takes the place of ``path`` at the end; after an error nothing is left of it.

    It has the suffix of ``path``. A symbolic link at ``path`` is replaced, never written through.

    Raises:
        OSError: the folder cannot be written, or something other than a file is in the place.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a.txt") as beside:
        ...         _ = beside.write_text("whole")
        ...     [(each.name, each.read_text()) for each in Path(folder).iterdir()]
        [('a.txt', 'whole')]
    """
    _check(path)
    with _begun(path.parent, path.suffix) as beside:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
        _sync(path.parent)


def append(path: Path, line: str) -> None:
    """Add a line to a text file, never through a symbolic link.

    Raises:
        OSError: it cannot be written.
    """
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK, 0o666), "w", newline="") as file:
        file.write(line)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[tuple[Path, int | None]]:
    """An empty folder to be filled, which becomes ``path`` at the end, and the handle that holds its lock.

    The lock goes with the folder: who fills it holds ``path`` from its first moment on, until the handle is closed.

    Raises:
        FileExistsError: ``path`` is there already and not an empty folder.
        OSError: the parent cannot be written.
    """
    beside, handle = _create(path.parent, "", lambda made: made.mkdir(0o700))
    try:
        yield beside, handle
        beside.chmod(0o777 & ~_umask())
        _rename(beside, path)
        _sync(path.parent)
    except BaseException:
        unlock(handle)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def move(folder: Path, path: Path) -> None:
    """Give a folder another name in one step; an empty folder in the place is replaced.

    Raises:
        FileExistsError: ``path`` is there already and not an empty folder.
        OSError: the parent cannot be written.
    """
    _rename(folder, path)
    _sync(path.parent)


def lock(path: Path, wait: bool = False) -> int | None:
    """A handle that holds the lock of a file or folder; None where there are no locks. The death of a process frees it.

    Raises:
        BlockingIOError: another process holds it, and it is not to be waited for.
        OSError: nothing is there, or it may not be opened.
    """
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if not os.path.samestat(os.fstat(handle), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, "moved away just now", str(path))
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def unlock(handle: int | None) -> None:
    """Let go of a lock."""
    if handle is not None:
        os.close(handle)


def remove_stale(folder: Path) -> None:
    """Remove what killed processes of this user left unfinished in a folder: what is still written is locked."""
    with contextlib.suppress(OSError):
        for each in os.scandir(folder) if fcntl else ():
            if BEGUN.fullmatch(each.name):
                with contextlib.suppress(OSError):
                    _remove(Path(each.path))


def _remove(path: Path) -> None:
    found = path.lstat()
    ours = found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
    handle = lock(path) if ours else None
    if handle is None:
        return
    try:
        shutil.rmtree(path) if stat.S_ISDIR(found.st_mode) else path.unlink()
    finally:
        unlock(handle)


@contextlib.contextmanager
def _begun(folder: Path, suffix: str) -> Iterator[Path]:
    """An empty file that only this user can read, locked as long as it is filled."""
    beside, handle = _create(folder, suffix, _empty)
    try:
        yield beside
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
        unlock(handle)


def _create(folder: Path, suffix: str, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """Something of a name that nobody can guess, and its lock."""
    beside = folder / _name(suffix)
    make(beside)
    try:
        return beside, lock(beside)
    except (BlockingIOError, FileNotFoundError):  # swept between the two lines
        return _create(folder, suffix, make)


def _empty(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600))


def _rename(beside: Path, path: Path) -> None:
    try:
        beside.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, "is there already", str(path)) from None
        raise


def _name(suffix: str) -> str:
    name = f".curvae-{secrets.token_hex(8)}{suffix}"
    return name if BEGUN.fullmatch(name) else name.removesuffix(suffix)


def _check(path: Path) -> None:
    """Refuse to take the place of a folder, a pipe or a device."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise FileExistsError(errno.EEXIST, "something other than a file is in its place", str(path))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    """Let the disk know of a new name; where it cannot be asked to, the name comes later."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
