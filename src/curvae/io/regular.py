"""Opening files that others may have made: regular ones only, and no more of them than was agreed."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from curvae.io.errors import FileError, reason

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def opened(path: Path) -> BufferedReader:
    """A regular file, open for reading; a pipe or device, which may never end, is refused before it is waited for.

    Raises:
        FileNotFoundError: nothing is there.
        FileError: it is no regular file, or may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a ValueError is a path with a null byte
        raise FileError(f"{path}: cannot be read ({reason(error)})") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise FileError(f"{path}: expected a regular file, got {KINDS.get(stat.S_IFMT(mode), 'a device')}")
    return os.fdopen(handle, "rb")


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The content of a regular file.

    Raises:
        FileNotFoundError: nothing is there.
        FileError: as :func:`opened`, or it is longer than ``limit`` bytes.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise FileError(f"{path}: expected at most {limit:,} bytes, got {size:,}")
        try:
            return file.read()
        except (OSError, MemoryError) as error:
            raise FileError(f"{path}: cannot be read ({reason(error)})") from None
