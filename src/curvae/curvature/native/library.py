"""Which library there is: that of the wheel, one kept from an earlier process, one made now, or none.

A wheel for this platform has libraries for each set of instructions beside this file; the one for what torch has found
in the processor is loaded. It is as trustworthy as the package's own Python files, which whoever can write there can
change as well. Elsewhere it is compiled on first use and kept in the folder ``kernel`` of the cache
(``$CURVAE_CACHE``, else the platform's), which must be this user's alone: what is loaded are the bytes that were
compared with their digest, not the file, which may change at any time. Without a compiler, or with
``CURVAE_KERNEL=0`` in the environment, there is no library.
"""

import ctypes
import os
import shlex
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from curvae.cache import cache_folder
from curvae.curvature.native import private_files
from curvae.curvature.native.compiler import FOLDER, INSTRUCTIONS, LOG, Build, CompileError, NoCompiler


class Kernel(NamedTuple):
    """What there is."""

    library: ctypes.CDLL | None
    path: Path | None = None
    """Where it is kept, None if it is not."""
    reason: str | None = None
    """Why there is none, or why it is not kept."""
    packaged: bool = False


def available() -> bool:
    """Whether the library for float32 is there; compiles it when asked for the first time."""
    return library() is not None


def library(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """That for float32 or float64, or None where it is switched off or cannot be had."""
    return _kernel("double" if dtype == torch.float64 else "float").library


def kernel_in_use() -> dict[str, str | int | None]:
    """What computes curvature in float32 in this process, for ``curvae doctor`` and a run's environment.

    ``kernel`` is "packaged" (in the wheel), "compiled" (on this machine) or "torch", ``path`` where the library is,
    ``reason`` why it is not kept, or why there is none; ``instructions`` ("avx512", "avx2", "sse2", "neon", ...) and
    ``vector_bytes`` are those that it was compiled for, ``torch`` those that torch uses.
    """
    found = _kernel("float")
    made = found.library
    return {
        "kernel": "torch" if made is None else "packaged" if found.packaged else "compiled",
        "path": None if found.path is None else str(found.path),
        "reason": found.reason,
        "instructions": None if made is None else _text(made, "curvae_instructions"),
        "vector_bytes": None if made is None else ctypes.c_int.in_dll(made, "curvae_vector_bytes").value,
        "torch": torch.backends.cpu.get_cpu_capability(),
    }


def _text(library: ctypes.CDLL, name: str) -> str:
    return (ctypes.c_char_p.in_dll(library, name).value or b"").decode()


def _kernel(real: str) -> Kernel:
    if os.environ.get("CURVAE_KERNEL") == "0":
        return Kernel(None, reason="switched off by CURVAE_KERNEL=0")
    return _load(real, os.environ.get("CC") or "cc", os.environ.get("CURVAE_CACHE"))


def _instructions() -> str:
    """Of those that there are libraries for, what torch has found in this processor."""
    found = torch.backends.cpu.get_cpu_capability().lower()
    return found if found in INSTRUCTIONS else "baseline"


@cache
def _load(real: str, command: str, kept: str | None) -> Kernel:
    """Made at most once for each source, compiler and instructions, and tried at most once in a process.

    Asked several times a training step: ``kept``, which cache it is, costs less to say than its folder.
    """
    try:
        build = Build(_instructions(), real, shlex.split(command))
        return _packaged(FOLDER / build.name) or _loaded(build, cache_folder() / "kernel")
    except NoCompiler as error:
        LOG.info("%s: curvature is computed with torch, which takes longer", error)
        return Kernel(None, reason=str(error))
    except (CompileError, OSError, ValueError) as error:
        LOG.warning("the curvature kernel cannot be had (%s); computing with torch, which takes longer", error)
        return Kernel(None, reason=str(error))


def _packaged(path: Path) -> Kernel | None:
    """That of the wheel; None where there is none, or where this system cannot load it."""
    if not path.is_file():
        return None
    try:
        return Kernel(ctypes.CDLL(str(path)), path, packaged=True)
    except OSError as error:
        LOG.warning("the curvature kernel of this package cannot be loaded (%s) and is compiled anew", error)
        return None


def _loaded(build: Build, folder: Path) -> Kernel:
    """The kept library, or a new one, which this process alone uses where it cannot be kept in safety."""
    made, name = None, build.key()
    try:
        with private_files.folder(folder) as place:
            if (made := _kept(place, name, folder)) is None:
                made = build.compiled()
                private_files.write_library(place, name, made)
        path, reason = folder / private_files.name(name, made), None
    except OSError as error:
        path, reason = None, f"{error}"
        LOG.warning("the curvature kernel cannot be kept (%s) and is for this process alone", reason)
    return Kernel(_opened(made or build.compiled()), path, reason)


def _kept(place: int, name: str, folder: Path) -> bytes | None:
    """What an earlier process left; files that are not what was written go."""
    made, spoiled = private_files.read_library(place, name)
    private_files.remove(place, spoiled)
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
