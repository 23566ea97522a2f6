"""What a wheel has of the compiled kernel, whatever the machine that builds it."""

import platform
import re
import zipfile
from pathlib import Path

import pytest

from curvae.curvature import native
from curvae.curvature.native import compiler

ROOT = Path(__file__).resolve().parents[2]
FAKE = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo "a library that needs GLIBC_2.2.5 and GLIBC_2.30" > "$2"
"""
hook = pytest.importorskip("hatch_build", reason="hatchling is not here")
pytestmark = pytest.mark.skipif(not (ROOT / "hatch_build.py").is_file(), reason="no source tree")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A wheel's name, its libraries and what it says of itself, from a copy of the sources in ``tmp_path``."""
    from hatchling.builders.wheel import WheelBuilder

    native_folder = tmp_path / hook.NATIVE
    native_folder.mkdir(parents=True)
    for path in (Path(compiler.__file__), *compiler.SOURCES, compiler.HEADER):
        (native_folder / path.name).write_bytes(path.read_bytes())
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "cc").write_text(FAKE)
    (tmp_path / "cc").chmod(0o755)

    def run(command: str) -> tuple[str, set[str], str]:
        monkeypatch.setenv("CC", command)
        (made,) = WheelBuilder(str(tmp_path)).build(directory=str(tmp_path / "dist"), versions=["standard"])
        with zipfile.ZipFile(made) as wheel:
            names = wheel.namelist()
            (about,) = (wheel.read(name).decode() for name in names if name.endswith("/WHEEL"))
            return Path(made).name, {Path(name).name for name in names if name.endswith(".so")}, about

    return run


def test_a_library_for_each_type_of_numbers_and_set_of_instructions(build, tmp_path: Path):
    name, libraries, about = build(str(tmp_path / "cc"))
    x86 = platform.machine() in ("x86_64", "AMD64")
    sets = compiler.INSTRUCTIONS if x86 else ("baseline",)
    assert libraries == {f"kernel-{one}-{real}.so" for one in sets for real in ("float", "double")}
    assert re.fullmatch(r"curvae-[\d.]+-py3-none-(manylinux_2_30|macosx_\w+)_\w+\.whl", name)
    assert "Root-Is-Purelib: false" in about


@pytest.mark.parametrize("command", ["no-such-compiler-here", "/bin/false", "true"])
def test_without_a_compiler_a_wheel_is_for_any_platform(command: str, build, capsys: pytest.CaptureFixture[str]):
    name, libraries, about = build(command)
    assert name.endswith("-py3-none-any.whl")
    assert libraries == set()
    assert "Root-Is-Purelib: true" in about
    assert "this wheel has no compiled kernel, and compiles it on first use" in capsys.readouterr().err


def test_an_editable_one_has_none():
    """Its sources change, and are compiled anew where they do."""
    data: dict[str, object] = {}
    hook.Kernel(str(ROOT), {}, None, None, "", "wheel").initialize("editable", data)
    assert data == {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"GLIBC_2.2.5 GLIBC_2.14", "manylinux_2_17_some"),
        (b"GLIBC_2.33 GLIBC_2.4", "manylinux_2_33_some"),
        (b"another C library", "linux_some"),
    ],
)
def test_the_tag_is_that_of_the_c_library_that_is_asked_for(content: bytes, expected: str, monkeypatch):
    monkeypatch.setattr(hook.sysconfig, "get_platform", lambda: "linux-some")
    assert hook.tag([content, b""]) == expected


@pytest.mark.skipif(not native.available(), reason="no C compiler here")
def test_the_sources_are_found_without_the_package():
    loaded = hook.load(Path(compiler.__file__))
    assert [(build.instructions, build.real) for build in hook.builds(loaded)][-1] == ("baseline", "double")
    assert loaded.SOURCES == compiler.SOURCES
