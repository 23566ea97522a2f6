"""From the C sources to the bytes of a library, with the standard library alone: ``hatch_build.py`` runs this file too.

Each library is for one type of numbers and one set of instructions, whatever the processor that it is compiled on.
"""

import hashlib
import logging
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LOG = logging.getLogger("curvae")
FOLDER = Path(__file__).parent
SOURCES = tuple(FOLDER / name for name in ("precision.c", "search.c"))
HEADER = FOLDER / "vectors.h"
FLAGS = ("-O3", "-std=c11", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
INSTRUCTIONS = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
    "baseline": (),
}
"""Flags for what torch looks for in a processor; the baseline is what all of its kind have (SSE2, or NEON on ARM)."""
REALS = ("float", "double")
SECONDS = 3
"""That compiling takes, about."""


class NoCompiler(Exception):
    """There is no such program."""


class CompileError(Exception):
    """The compiler is there and does not do it: its first complaint in one line."""


class Build(NamedTuple):
    """One library: for which instructions and type of numbers, and by which compiler."""

    instructions: str
    real: str
    command: Sequence[str]

    @property
    def name(self) -> str:
        """Of the file that a wheel has."""
        return f"kernel-{self.instructions}-{self.real}.so"

    @property
    def flags(self) -> tuple[str, ...]:
        return *FLAGS, *INSTRUCTIONS[self.instructions], f"-DREAL={self.real}"

    def key(self) -> str:
        """What the library depends on: the sources, the compiler, its flags and what it compiles for.

        Raises:
            NoCompiler, CompileError: see there.
        """
        sources = (source.read_bytes() for source in (*SOURCES, HEADER))
        version = _run([*self.command, "--version"], seconds=60).stdout
        words = (*self.command, *self.flags, platform.machine())
        return hashlib.sha256(b"\0".join((*sources, version, repr(words).encode()))).hexdigest()[:32]

    def compiled(self) -> bytes:
        """The library; what else is made on the way lies in a folder that only this user can enter.

        Raises:
            NoCompiler, CompileError: see there.
        """
        LOG.info("compiling the curvature kernel for %s once, about %d s", self.real, SECONDS)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            made = Path(folder) / "kernel.so"
            _run([*self.command, *self.flags, "-o", str(made), *map(str, SOURCES), "-lm"], seconds=300)
            if not made.is_file():
                raise CompileError(f"{self.command[0]} made no library")
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
