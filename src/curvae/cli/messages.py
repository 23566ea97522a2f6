"""What the library has to say while a command runs, on stderr."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger("curvae")


@contextmanager
def told() -> Iterator[None]:
    """The library's log, a line a message on stderr: what takes long, and what goes another way than was asked for.

    Example:
        >>> with told():
        ...     LOG.isEnabledFor(logging.INFO)
        True
    """
    handler, level = logging.StreamHandler(sys.stderr), LOG.level
    handler.setFormatter(logging.Formatter("curvae: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
