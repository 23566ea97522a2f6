"""Asking the memory before taking it, and taking rows some at a time."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

VALUE = 4
"""Bytes of a parameter."""
GROUP = Path("/sys/fs/cgroup")
MACHINE = Path("/proc/meminfo")


def available_bytes() -> int | None:
    """Bytes that this process can still take; None where the system does not tell."""
    known = [found for found in (_of_machine(), _of_group()) if found is not None]
    return min(known) if known else None


def require_memory(values: int, what: str) -> None:
    """The door of whatever allocates parameters.

    Args:
        values: how many.
        what: the words before the colon of the message.

    Raises:
        ValueError: there is no room for them.

    Example:
        >>> require_memory(1_000, "MLP")
        >>> require_memory(10**30, "MLP")
        Traceback (most recent call last):
        ...
        ValueError: MLP: expected parameters that fit into memory, got 4e+21 GB where ... are free; take ...
    """
    require_bytes(values * VALUE, what, "parameters", "take fewer latents or narrower layers")


def require_bytes(size: int, what: str, thing: str, mend: str) -> None:
    """The same for anything else, in its own words.

    Raises:
        ValueError: there is no room for so many bytes.
    """
    free = available_bytes()
    if free is not None and size > free:
        raise ValueError(
            f"{what}: expected {thing} that fit into memory, got {size / 1e9:,.4g} GB where "
            f"{free / 1e9:,.1f} GB are free; {mend}."
        )


@runtime_checkable
class Splits(Protocol):
    """Rows, in memory or in a file."""

    def split(self, size: int, /) -> "Iterable[Tensor]":
        """All of them, so many at a time."""
        ...


def blocks(x: Splits, mask: Splits | None, rows: int) -> "Iterator[tuple[Tensor, Tensor | None]]":
    """Some rows at a time, each with its part of the mask."""
    return zip(x.split(rows), repeat(None) if mask is None else mask.split(rows), strict=False)


def _of_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = MACHINE.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_group() -> int | None:
    """Of a container, where it has a limit of its own."""
    with contextlib.suppress(OSError, ValueError):
        return max(0, int((GROUP / "memory.max").read_text()) - int((GROUP / "memory.current").read_text()))
    return None
