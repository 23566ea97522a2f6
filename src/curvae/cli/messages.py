"""What the library has to say while a command runs, on stderr."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from curvae.progress import say

LOG = logging.getLogger("curvae")


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"curvae: {record.getMessage()}")


@contextmanager
def told() -> Iterator[None]:
    """The library's log, a line a message on stderr: what takes long, and what goes another way than was asked for.

    Example:
        >>> with told():
        ...     LOG.isEnabledFor(logging.INFO)
        True
    """
    handler, level = _Lines(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
