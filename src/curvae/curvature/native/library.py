"""Which compiled library there is: kept from an earlier process, made now, or none.

It is compiled on first use and kept in the folder ``kernel`` of the cache (``$CURVAE_CACHE``, else the platform's),
which must be this user's alone. What is loaded are the bytes that were compared with their digest, not the file, which
may change at any time. Without a compiler, or with ``CURVAE_KERNEL=0`` in the environment, there is no library.
"""

import ctypes
import os
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from curvae.cache import cache_folder
from curvae.curvature.native import private
from curvae.curvature.native.compiler import LOG, CompileError, NoCompiler, compiled, key


class Kernel(NamedTuple):
    """What there is."""

    library: ctypes.CDLL | None
    path: Path | None = None
    """Where it is kept, None if it is not."""
    reason: str | None = None
    """Why there is none, or why it is not kept."""


def available() -> bool:
    """Whether the library is there; compiles it when asked for the first time."""
    return library() is not None


def library() -> ctypes.CDLL | None:
    """The compiled library, or None where it is switched off or cannot be had."""
    return _kernel().library


def describe() -> dict[str, str | int | None]:
    """What computes curvature in this process, for ``curvae doctor`` and a run's environment.

    ``kernel`` is "compiled" or "torch", ``path`` where the library is kept, ``reason`` why it is not, or why there is
    none; ``instructions`` ("avx512", "avx2", "neon", ...) and ``vector_bytes`` are those that it was compiled for,
    ``torch`` those that torch uses.
    """
    found = _kernel()
    made = found.library is not None
    return {
        "kernel": "compiled" if made else "torch",
        "path": None if found.path is None else str(found.path),
        "reason": found.reason,
        "instructions": _instructions(found.library) if found.library is not None else None,
        "vector_bytes": ctypes.c_int.in_dll(found.library, "vector_bytes").value if found.library is not None else None,
        "torch": torch.backends.cpu.get_cpu_capability(),
    }


def _instructions(library: ctypes.CDLL) -> str:
    return (ctypes.c_char_p.in_dll(library, "instructions").value or b"").decode()


def _kernel() -> Kernel:
    if os.environ.get("CURVAE_KERNEL") == "0":
        return Kernel(None, reason="switched off by CURVAE_KERNEL=0")
    return _load(os.environ.get("CC") or "cc", os.environ.get("CURVAE_CACHE"))


@cache
def _load(compiler: str, kept: str | None) -> Kernel:
    """Made at most once for each source, compiler and processor, and tried at most once in a process.

    Asked several times a training step: ``kept``, which cache it is, costs less to say than its folder.
    """
    try:
        return _loaded(shlex.split(compiler), cache_folder() / "kernel")
    except NoCompiler as error:
        LOG.info("%s: curvature is computed with torch, which takes longer", error)
        return Kernel(None, reason=str(error))
    except (CompileError, OSError, ValueError) as error:
        LOG.warning("the curvature kernel cannot be had (%s); computing with torch, which takes longer", error)
        return Kernel(None, reason=str(error))


def _loaded(command: Sequence[str], folder: Path) -> Kernel:
    """The kept library, or a new one, which this process alone uses where it cannot be kept in safety."""
    made, name = None, key(command)
    try:
        with private.folder(folder) as place:
            if (made := _kept(place, name, folder)) is None:
                made = compiled(command)
                private.write(place, name, made)
        path, reason = folder / private.name(name, made), None
    except OSError as error:
        path, reason = None, f"{error}"
        LOG.warning("the curvature kernel cannot be kept (%s) and is for this process alone", reason)
    return Kernel(_opened(made or compiled(command)), path, reason)


def _kept(place: int, name: str, folder: Path) -> bytes | None:
    """What an earlier process left; files that are not what was written go."""
    made, spoiled = private.read(place, name)
    private.remove(place, spoiled)
    for each in spoiled:
        LOG.warning("%s was not what had been written there, and was removed", folder / each)
    return made


def _opened(content: bytes) -> ctypes.CDLL:
    """A library from these bytes: in memory, or in a file that only this user can reach, for as long as it takes."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            descriptor = os.memfd_create("curvae-kernel")  # left open: no other library comes under its name
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "kernel.so"
        path.write_bytes(content)
        return ctypes.CDLL(str(path))
