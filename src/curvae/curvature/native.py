"""The library's own C code: compiled on first use, and how it is called.

The sources are compiled by the system's C compiler and kept in the cache folder (``$CURVAE_CACHE``, else the
platform's). Without a compiler, or with ``CURVAE_KERNEL=0`` in the environment, there is no library, and its callers
compute the same with torch.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernel.c", "search.c", "last.c"))
HEADERS = tuple(Path(__file__).with_name(name) for name in ("native.h", "dot.h", "active.h", "chain.h", "newton.h"))
FLAGS = ("-O3", "-std=c11", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
LAYERS = 16
"""Layers that the code is made for."""
SHARE = 8
"""Items that are worth a thread."""
Argument = Tensor | list[Tensor] | int | None
"""A tensor is passed as its address, a list of them as an array of addresses, a number as a size."""


def available() -> bool:
    """Whether the library is there; compiles it when asked for the first time."""
    return library() is not None


def plain(tensor: Tensor) -> bool:
    """Whether there is memory of the CPU behind it, which C may read."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
    )


def vector_bytes() -> int:
    """The length of the vectors that the library was compiled for."""
    return ctypes.c_int.in_dll(library(), "vector_bytes").value  # pyright: ignore[reportArgumentType]


def call(name: str, dtype: torch.dtype, *arguments: Argument) -> bool:
    """Call the library's ``name`` for this dtype, without the interpreter's lock; whether all went well."""
    function = getattr(library(), f"{name}_{'float' if dtype == torch.float32 else 'double'}", None)
    return function is not None and function(*map(_argument, arguments)) == 0


@lru_cache(64)
def numbers(dtype: torch.dtype, *values: float) -> Tensor:
    """Settings and sizes as C reads them: one tensor for all calls with the same."""
    return torch.tensor(values, dtype=dtype, device="cpu")


def _argument(value: Argument) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, list):
        return (ctypes.c_void_p * len(value))(*(tensor.data_ptr() for tensor in value))
    return None if value is None else ctypes.c_ssize_t(value)


def threads(items: int) -> int:
    """How many parts so many items are worth."""
    return max(1, min(torch.get_num_threads(), items // SHARE))


def split(items: int, work: Callable[[int, int, int], bool]) -> bool:
    """Run ``work(part, begin, end)`` over the items, on as many threads as torch may use; whether all went well."""
    parts = threads(items)
    if parts == 1:
        return work(0, 0, items)
    ends = [items * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        return all(pool.map(work, range(parts), ends[:-1], ends[1:]))


def library() -> ctypes.CDLL | None:
    """The compiled library, or None where it is switched off or cannot be had."""
    if os.environ.get("CURVAE_KERNEL") == "0":
        return None
    return _load(os.environ.get("CC") or "cc", os.environ.get("CURVAE_CACHE"))


@cache
def _load(compiler: str, folder: str | None) -> ctypes.CDLL | None:
    """Compiled at most once for each source, compiler and processor, and tried at most once in a process."""
    command = shlex.split(compiler)
    try:
        version = subprocess.run([*command, "--version"], capture_output=True, check=True, timeout=60).stdout
        sources = (source.read_bytes() for source in (*SOURCES, *HEADERS))
        key = hashlib.sha256(b"\0".join((*sources, version, repr((command, FLAGS)).encode(), _processor())))
        path = _cache(folder) / "kernel" / f"{key.hexdigest()[:32]}.so"
        if not path.exists():
            _compile(command, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError, ImportError):
        return None


def _compile(command: list[str], path: Path) -> None:
    """For this very processor if the compiler can; the file appears at once and whole, whoever else compiles it too."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "kernel.so"
        for native in (["-march=native"], ["-mcpu=native"], []):
            call = [*command, *FLAGS, *native, "-o", str(made), *map(str, SOURCES), "-lm"]
            if subprocess.run(call, capture_output=True, timeout=300).returncode == 0 and made.exists():
                os.replace(made, path)
                return
    raise OSError(f"{command[0]} could not compile {SOURCES[0].name}")


def _cache(folder: str | None) -> Path:
    """The folder that the data sets use too."""
    import pooch

    return Path(folder or pooch.os_cache("curvae"))


def _processor() -> bytes:
    """What this processor can do, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        flags = next((line for line in lines if line.lower().startswith((b"flags", b"features"))), b"")
    except OSError:
        flags = b""
    return b"\0".join((platform.machine().encode(), platform.processor().encode(), flags))
