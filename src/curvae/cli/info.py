"""``curvae list`` and ``curvae doctor``: what there is, and whether it works."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from inspect import getdoc
from pathlib import Path

from curvae.cli.flags import unmarked
from curvae.cli.output import show
from curvae.cli.parsing import command

PACKAGES = ("curvae", "torch", "lightning", "numpy", "scipy", "scikit-learn", "safetensors", "jsonargparse", "zuko")
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")

Row = tuple[str, str]
TITLES = {
    "first": "systems for a first fit",
    "posterior": "a posterior that is closer to the true one",
    "objective": "another bound, or an objective that is none",
    "model": "a prior or a decoder that says more",
    "levels": "levels of latents, and clusters",
    "density": "an exact log p(x)",
    "missing": "values that are missing, learned from",
    "weights": "weights that are uncertain, for unknown inputs",
    "sequences": "sequences",
    "discrete": "discrete latents",
    "own": "your own",
}
"""Groups of systems, by what somebody wants who takes one."""


@command("", "curvae list")
def list_() -> None:
    """Systems with a line and a reference for each, and the known data sets."""
    from curvae import registry
    from curvae.data.datasets.known_sets import SOURCES

    for purpose, title in TITLES.items():
        if names := registry.systems(purpose):
            rows = [(name, *registry.describe_system(name)) for name in names]
            show(title, ["name", "what it is", "reference"], rows)
    described = [(name, unmarked(_first_line(source))) for name, source in SOURCES.items()]
    show("data sets (or a .npy, .npz, .csv, .tsv or .txt file of your own)", ["name", "what it is"], described)
    print("your own: subclass curvae.systems.System and register it, as docs/without-latents.md does in ten lines")
    print("next: curvae fit vlae digits --help")


@command("", "curvae doctor")
def doctor() -> None:
    """What this installation finds: versions, devices, threads, caches; and what to mend."""
    advice = [*_thread_advice(), *_torchvision_advice()]
    rows = [*_versions(), *_devices(), *_threads(), *_kernel(), *_cache(), ("free disk here", _free(Path.cwd()))]
    show("", ["", ""], rows)
    print("\n".join(f"advice: {line}" for line in advice) or "All is well.")


def _first_line(source: object) -> str:
    return (getdoc(source) or "").split("\n\n")[0]


def _versions() -> Iterator[Row]:
    yield "python", f"{sys.version.split()[0]} ({sys.executable})"
    for package in PACKAGES:
        yield package, _version(package) or "not installed"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[Row]:
    import torch

    yield "device cpu", f"{os.cpu_count()} cores"
    for i in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(i)
        yield f"device cuda:{i}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "device mps", "Apple GPU"


def _threads() -> Iterator[Row]:
    import torch

    yield "threads of torch", str(torch.get_num_threads())
    yield from ((name, os.environ.get(name, "not set")) for name in THREADS)


def _kernel() -> Iterator[Row]:
    from curvae.curvature import native

    found = native.kernel_in_use()
    of = f", {found['instructions']}, vectors of {found['vector_bytes']} bytes" if found["instructions"] else ""
    yield "curvature kernel", f"{found['kernel']}{of}" + (f" ({found['reason']})" if found["reason"] else "")
    if found["path"]:
        yield "  kept in", str(Path(str(found["path"])).parent)
    yield "instructions of torch", str(found["torch"])


def _thread_advice() -> Iterator[str]:
    if os.environ.get("OMP_NUM_THREADS") is None:
        yield "OMP_NUM_THREADS=1 is faster for small networks, and runs then repeat to the last digit."
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE" and os.environ.get("OMP_NUM_THREADS") != "1":
        yield "OMP_WAIT_POLICY=PASSIVE keeps threads from spinning where several processes share the cores."


def _torchvision_advice() -> Iterator[str]:
    """Whether torchvision is there and cannot be imported, which takes Lightning down with it; tried in a process."""
    found = _version("torchvision")
    if found is None:
        return
    tried = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no message"])[-1]
        yield (
            f"torchvision {found} cannot be imported ({reason}) and may take lightning down with it; curvae does not "
            f"need it: {sys.executable} -m pip uninstall torchvision"
        )


def _cache() -> Iterator[Row]:
    from curvae.cache import cache_folder

    folder = cache_folder()
    yield "data cache", f"{folder} ({_free(folder)})"
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield f"  {entry.name}", f"{_size(entry) / 1e6:,.1f} MB"


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def _free(path: Path) -> str:
    there = next(parent for parent in [path, *path.parents] if parent.exists())
    return f"{shutil.disk_usage(there).free / 1e9:,.1f} GB free"
