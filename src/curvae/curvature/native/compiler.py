"""From the C sources to the bytes of a library, for this very processor."""

import hashlib
import logging
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

LOG = logging.getLogger("curvae")
SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernel.c", "search.c", "last.c"))
HEADERS = tuple(Path(__file__).with_name(name) for name in ("native.h", "dot.h", "active.h", "chain.h", "newton.h"))
FLAGS = ("-O3", "-std=c11", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
NATIVE = (["-march=native"], ["-mcpu=native"], [])
"""For this processor, in the words of one compiler or the other, or else for any of its kind."""
SECONDS = 5
"""That compiling takes, about."""


class NoCompiler(Exception):
    """There is no such program."""


class CompileError(Exception):
    """The compiler is there and does not do it: its first complaint in one line."""


def key(command: Sequence[str]) -> str:
    """What the library depends on: the sources, the compiler and its flags, the processor.

    Raises:
        NoCompiler, CompileError: see there.
    """
    sources = (source.read_bytes() for source in (*SOURCES, *HEADERS))
    version = _run([*command, "--version"], seconds=60).stdout
    parts = (*sources, version, repr((tuple(command), FLAGS)).encode(), _processor())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def compiled(command: Sequence[str]) -> bytes:
    """The library; what else is made on the way lies in a folder that only this user can enter.

    Raises:
        NoCompiler, CompileError: see there.
    """
    LOG.info("compiling the curvature kernel once for this processor, about %d s", SECONDS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "kernel.so"
        for native in NATIVE[:-1]:
            try:
                return _linked(command, native, made)
            except CompileError:  # a compiler that does not know the flag
                continue
        return _linked(command, NATIVE[-1], made)


def _linked(command: Sequence[str], native: Sequence[str], made: Path) -> bytes:
    _run([*command, *FLAGS, *native, "-o", str(made), *map(str, SOURCES), "-lm"], seconds=300)
    if not made.is_file():
        raise CompileError(f"{command[0]} made no library")
    return made.read_bytes()


def _run(words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(words, capture_output=True, check=True, timeout=seconds)
    except FileNotFoundError:
        raise NoCompiler(f"there is no C compiler {words[0]!r}") from None
    except subprocess.CalledProcessError as error:
        raise CompileError(f"{words[0]}: {_complaint(error)}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(f"{words[0]}: {' '.join(str(error).split())}") from None


def _complaint(error: subprocess.CalledProcessError) -> str:
    """The first line that tells of an error, else the first one."""
    lines = [line.strip() for line in error.stderr.decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), (lines or [f"exit status {error.returncode}"])[0])


def _processor() -> bytes:
    """What this processor can do, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        flags = next((line for line in lines if line.lower().startswith((b"flags", b"features"))), b"")
    except OSError:
        flags = b""
    return b"\0".join((platform.machine().encode(), platform.processor().encode(), flags))
