"""Puts the compiled curvature kernel into a wheel: for each set of instructions and type of numbers a library.

Without a compiler the wheel is one of Python alone, for any platform, which compiles the kernel on first use.
"""

import importlib.util
import os
import platform
import re
import shlex
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src", "curvae", "curvature", "native")


class Kernel(BuildHookInterface):
    """Of wheels that are to be shipped; an editable one compiles what it finds, as its sources change."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        compiler = load(Path(self.root, NATIVE, "compiler.py"))
        try:
            made = {build.name: build.compiled() for build in builds(compiler)}
        except (compiler.NoCompiler, compiler.CompileError) as error:
            self.app.display_warning(f"{error}: this wheel has no compiled kernel, and compiles it on first use")
            return
        folder = Path(self.root, "build", "kernel")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in made.items():
            (folder / name).write_bytes(content)
            build_data["force_include"][str(folder / name)] = f"curvae/curvature/native/{name}"
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{tag(made.values())}"


def load(path: Path) -> ModuleType:
    """A module by its file: importing it by name would import torch."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def builds(compiler: ModuleType) -> Iterator[Any]:
    """The libraries of this platform: only x86-64 processors differ in what torch looks for."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    for instructions in compiler.INSTRUCTIONS if x86 else ("baseline",):
        for real in compiler.REALS:
            yield compiler.Build(instructions, real, shlex.split(os.environ.get("CC") or "cc"))


def tag(libraries: Iterable[bytes]) -> str:
    """The platforms that these run on: on Linux those with the version of glibc that they ask for (PEP 600)."""
    own = sysconfig.get_platform().replace("universal2", platform.machine())
    asked = [int(minor) for content in libraries for minor in re.findall(rb"GLIBC_2\.(\d+)", content)]
    return re.sub(r"[-.]", "_", own.replace("linux", f"manylinux_2_{max(17, *asked)}") if asked else own)
