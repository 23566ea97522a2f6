"""Files that nobody but this user can have written, with the content that was written.

The folder is opened once, checked through its descriptor, and used through it; a file is read once, and these bytes are
compared with the digest in its name. So nothing can be put in the place of what was checked.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""All that a mode can grant to the group and to others."""
WRITERS = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder that this user alone can enter; it is made where there is none.

    Raises:
        OSError: it cannot be made, it is a link, it belongs to somebody else or can be entered by others, or whoever
            wants can put another in its place. The error's text is one line.
    """
    if not hasattr(os, "geteuid"):
        raise OSError(f"{path}: this system does not tell who owns a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link; remove it")
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check(path, os.fstat(descriptor), path.parent.stat())
        yield descriptor
    finally:
        os.close(descriptor)


def _check(path: Path, found: os.stat_result, above: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise OSError(f"{path} belongs to another user; remove it")
    if found.st_mode & OTHERS:
        raise OSError(f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}); remove it")
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise OSError(f"{path.parent} can be written by everyone; give it the mode 755")


def name(key: str, content: bytes) -> str:
    """The file's name: what it was made from, and what is in it."""
    return f"{key}-{hashlib.sha256(content).hexdigest()}.so"


def read_library(folder: int, key: str) -> tuple[bytes | None, list[str]]:
    """What was written for this key, None if nothing; and the names of files that are not what was written."""
    spoiled = []
    for found in os.listdir(folder):
        if found.startswith(f"{key}-"):
            content = _content(folder, found)
            if content is not None and name(key, content) == found:
                return content, spoiled
            spoiled.append(found)
    return None, spoiled


def _content(folder: int, name: str) -> bytes | None:
    """The bytes of a regular file of this user's that others cannot write; None for anything else."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & WRITERS
        return file.read() if ours else None


def write_library(folder: int, key: str, content: bytes) -> None:
    """Keep the content for this key; the file appears at once and whole, whoever else writes it too.

    Raises:
        OSError: the disk does not take it.
    """
    fresh = f".{secrets.token_hex(8)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(fresh, name(key, content), src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(fresh, dir_fd=folder)
        raise


def remove(folder: int, names: list[str]) -> None:
    """Remove files, or links to them, of a folder that is this user's own."""
    for each in names:
        with suppress(OSError):
            os.unlink(each, dir_fd=folder)
