"""The tests of the C code with the kernel of an installed wheel, by every set of instructions that this processor has.

    python tests/installed.py tests/unit/test_kernel.py ...

Stops where the package is not an installed one, or where another kernel than that of its wheel would be used.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch

import curvae
from curvae.curvature import native

SETS = ("default", "avx2", "avx512")
"""In torch's words, each with all of the one before."""


def sets() -> tuple[str, ...]:
    """Those of this processor, the least first."""
    found = torch.backends.cpu.get_cpu_capability().lower()
    return SETS[: SETS.index(found) + 1] if found in SETS else SETS[:1]


def main(tests: list[str]) -> int:
    if Path(__file__).resolve().parents[1] / "src" in Path(curvae.__file__).resolve().parents:
        raise SystemExit(f"expected an installed curvae, got {curvae.__file__}")
    if native.kernel_in_use()["kernel"] != "packaged":
        raise SystemExit(f"expected the kernel of the wheel, got {native.kernel_in_use()}")
    for each in sets():
        environment = os.environ | {"ATEN_CPU_CAPABILITY": each}
        code = "from curvae.curvature import native; print(native.kernel_in_use())"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], env=environment, check=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
