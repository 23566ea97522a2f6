"""The library of compiled code: made once, loaded only where it can be trusted, and done without where it cannot be."""

import ctypes
import hashlib
import logging
import os
import platform
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from curvae.curvature import native
from curvae.curvature.native import calls as c_calls
from curvae.curvature.native import compiler, kernel, library, private_files

NEEDS_COMPILER = pytest.mark.skipif(not native.available(), reason="no C compiler here")
NEEDS_OWNERS = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system does not tell who owns a file")

FAKE = """#!/bin/sh
[ "$1" = --version ] && echo fake 1.0 && exit 0
echo >> "{calls}"
while [ "$1" != -o ]; do shift; done
cp "{library}" "$2"
"""
"""A compiler that takes no time: it copies what the real one made."""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own and a fast compiler, which writes an empty line here each time it is called."""
    made, calls, script = tmp_path / "made", tmp_path / "calls", tmp_path / "cc"
    made.write_bytes(Path(str(native.kernel_in_use()["path"])).read_bytes())
    calls.touch()
    script.write_text(FAKE.format(calls=calls, library=made))
    script.chmod(0o755)
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(script))
    return calls


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "curvae"):
        yield caplog


def kept(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache" / "kernel").iterdir()
    return found


def anew() -> dict[str, str | int | None]:
    """What a new process finds."""
    library._load.cache_clear()
    return native.kernel_in_use()


def warnings(told: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in told.records if record.levelno >= logging.WARNING]


# --- compiling ------------------------------------------------------------------------------------


@NEEDS_COMPILER
def test_compiled_once_into_the_cache(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    found = anew()
    assert told.messages == ["compiling the curvature kernel for float once, about 3 s"]
    assert found["kernel"] == "compiled"
    assert found["path"] == str(kept(tmp_path))
    assert stat.S_IMODE(kept(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(kept(tmp_path).parent.stat().st_mode) == 0o700
    assert anew() == found
    assert calls.read_text() == "\n"
    assert len(told.messages) == 1


@NEEDS_COMPILER
def test_the_real_compiler_makes_a_library_that_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    assert native.available()
    weight, on = torch.tensor([[1.0, 0.0], [5.0, 5.0], [1.0, 2.0]]), torch.tensor([[True, False, True]])
    made = kernel.precision([weight], [on], torch.eye(3))
    assert made is not None
    assert torch.equal(made[0], torch.tensor([[[2.0, 2.0], [2.0, 4.0]]]))


@NEEDS_COMPILER
def test_what_is_there_is_described():
    found = native.kernel_in_use()
    assert found["instructions"] in ("avx512", "avx2", "sse2", "neon", "generic")
    assert found["vector_bytes"] == {"avx512": 64, "avx2": 32}.get(str(found["instructions"]), 16)
    assert found["torch"] == torch.backends.cpu.get_cpu_capability()
    assert found["torch"] in ("AVX512", "AVX2") or found["instructions"] not in ("avx512", "avx2")
    assert found["torch"] not in ("AVX512", "AVX2") or found["instructions"] == str(found["torch"]).lower()
    assert found["reason"] is None


def test_switched_off_is_described(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    found = native.kernel_in_use()
    assert (found["kernel"], found["path"], found["instructions"]) == ("torch", None, None)
    assert found["reason"] == "switched off by CURVAE_KERNEL=0"


BROKEN = """#!/bin/sh
[ "$1" = --version ] && exit 0
echo "In file included from somewhere" >&2
echo "search.c:17:10: fatal error: vectors.h: No such file" >&2
echo "compilation terminated due to an error" >&2
exit 1
"""


@pytest.mark.parametrize(
    ("words", "level", "message"),
    [
        ("no-such-compiler-here", "INFO", "there is no C compiler 'no-such-compiler-here'"),
        ("/bin/false", "WARNING", "(/bin/false: exit status 1)"),
        ("true", "WARNING", "(true made no library)"),
        ("env false", "WARNING", "(env: exit status 1)"),
        ("'", "WARNING", "(No closing quotation)"),
        ("BROKEN", "WARNING", "cc: search.c:17:10: fatal error: vectors.h: No such file)"),
    ],
)
def test_no_compiler_that_works(
    words: str, level: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told, capfd
):
    """One line says why, and torch computes the same."""
    (tmp_path / "cc").write_text(BROKEN)
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.delenv("CURVAE_KERNEL", raising=False)  # switched off, none would be looked for
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "cc") if words == "BROKEN" else words)
    assert not native.available()
    assert not native.available()
    weight, on = torch.tensor([[1.0, 0.0], [5.0, 5.0], [1.0, 2.0]]), torch.tensor([[True, False, True]])
    assert torch.equal(kernel.relu_precision([weight], [on], torch.eye(3)), torch.tensor([[[2.0, 2.0], [2.0, 4.0]]]))
    (record,) = (record for record in told.records if "compiling" not in record.getMessage())
    assert record.levelname == level
    assert message in record.getMessage()
    assert "\n" not in record.getMessage()
    assert native.kernel_in_use()["reason"]
    assert capfd.readouterr() == ("", "")


@NEEDS_COMPILER
def test_processes_that_compile_at_once(calls: Path, tmp_path: Path):
    code = "from curvae.curvature import native; print(native.kernel_in_use()['path'])"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [(process.communicate(timeout=120)[0].strip(), process.returncode) for process in started]
    assert ended == [(str(kept(tmp_path)), 0)] * 3


# --- what is not loaded ---------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def zeroed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 40)


def linked(path: Path) -> None:
    """The right content, in a file that lies elsewhere and can change at any time."""
    elsewhere = path.parent.parent / "elsewhere.so"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def writable(path: Path) -> None:
    path.chmod(0o620)


def renamed(path: Path) -> Path:
    return path.rename(path.with_name(private_files.name(path.name.partition("-")[0], b"other")))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@NEEDS_OWNERS
@NEEDS_COMPILER
@pytest.mark.parametrize("spoil", [cut, zeroed, flipped, empty, garbage, linked, writable, pipe, renamed])
def test_what_was_not_written_there_is_made_anew(spoil, calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    found, path = anew(), kept(tmp_path)
    content = path.read_bytes()
    spoiled = spoil(path) or path
    assert anew() == found
    assert calls.read_text() == "\n\n"
    assert warnings(told) == [f"{spoiled} was not what had been written there, and was removed"]
    assert (kept(tmp_path), path.read_bytes()) == (path, content)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


@NEEDS_OWNERS
@NEEDS_COMPILER
def test_a_planted_library_is_not_loaded(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    """A folder that others can write may hold anything, with the right digest too."""
    anew()
    planted = kept(tmp_path).with_name(private_files.name(kept(tmp_path).name.partition("-")[0], b"evil"))
    kept(tmp_path).unlink()
    planted.write_bytes(b"evil")
    planted.parent.chmod(0o777)
    assert_for_this_process_alone(anew(), calls, told, "is open to other users (mode 777); remove it")
    assert planted.read_bytes() == b"evil"


def assert_for_this_process_alone(found, calls: Path, told: pytest.LogCaptureFixture, why: str) -> None:
    assert found["kernel"] == "compiled"
    assert found["path"] is None
    assert why in found["reason"]
    assert warnings(told) == [f"the curvature kernel cannot be kept ({found['reason']}) and is for this process alone"]
    assert calls.read_text() == "\n" * len([line for line in told.messages if line.startswith("compiling")])


@NEEDS_OWNERS
@NEEDS_COMPILER
@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o702])
def test_a_folder_open_to_others(mode: int, calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    (tmp_path / "cache" / "kernel").mkdir(parents=True)
    (tmp_path / "cache" / "kernel").chmod(mode)
    assert_for_this_process_alone(anew(), calls, told, f"is open to other users (mode {mode:o}); remove it")
    assert list((tmp_path / "cache" / "kernel").iterdir()) == []


@NEEDS_OWNERS
@NEEDS_COMPILER
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_cache_that_everyone_can_write(mode: int, calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    """But for a sticky one, such as that of temporary files: there nobody can rename what is another's."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    found = anew()
    if mode & stat.S_ISVTX:
        assert found["path"] == str(kept(tmp_path))
    else:
        assert_for_this_process_alone(found, calls, told, "cache can be written by everyone; give it the mode 755")


@NEEDS_OWNERS
@NEEDS_COMPILER
def test_a_folder_that_is_a_link(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache" / "kernel").symlink_to(tmp_path / "elsewhere")
    assert_for_this_process_alone(anew(), calls, told, "kernel is a symbolic link; remove it")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@NEEDS_OWNERS
@NEEDS_COMPILER
def test_the_folder_of_another_user(calls: Path, told, monkeypatch: pytest.MonkeyPatch):
    anew()
    told.clear()
    calls.write_text("")
    monkeypatch.setattr(private_files.os, "geteuid", lambda: os.getuid() + 1)
    assert_for_this_process_alone(anew(), calls, told, "kernel belongs to another user; remove it")


@NEEDS_OWNERS
def test_the_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with private_files.folder(tmp_path / "kernel") as folder:
        private_files.write_library(folder, "key", b"content")
        assert private_files.read_library(folder, "key") == (b"content", [])
        monkeypatch.setattr(private_files.os, "geteuid", lambda: os.getuid() + 1)
        assert private_files.read_library(folder, "key") == (None, [private_files.name("key", b"content")])


@NEEDS_COMPILER
def test_a_cache_that_cannot_be_made(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    (tmp_path / "cache").write_text("")
    assert_for_this_process_alone(anew(), calls, told, "File exists")


@NEEDS_COMPILER
def test_a_full_disk(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object, **places: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_files.os, "replace", full)
    assert_for_this_process_alone(anew(), calls, told, "No space left on device")
    assert list((tmp_path / "cache" / "kernel").iterdir()) == []


@NEEDS_COMPILER
def test_a_system_without_owners(calls: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(private_files.os, "geteuid")
    assert_for_this_process_alone(anew(), calls, told, "does not tell who owns a folder")


@NEEDS_COMPILER
def test_a_system_without_files_in_memory(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The copy in a temporary folder is gone once it is loaded."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.delattr(library.os, "memfd_create", raising=False)
    monkeypatch.setattr(library.tempfile, "tempdir", str(temporary))
    assert anew()["kernel"] == "compiled"
    assert list(temporary.iterdir()) == []


@NEEDS_OWNERS
@NEEDS_COMPILER
def test_the_bytes_that_were_checked_are_loaded(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file that changes after it was read changes nothing."""
    found, path, read = anew(), kept(tmp_path), private_files.read_library

    def then_cut(folder: int, key: str):
        content = read(folder, key)
        cut(path)
        return content

    monkeypatch.setattr(private_files, "read_library", then_cut)
    assert anew() == found
    assert isinstance(library.library(), ctypes.CDLL)


@NEEDS_OWNERS
def test_a_digest_beside_another_name_is_none(tmp_path: Path):
    digest = hashlib.sha256(b"content").hexdigest()
    with private_files.folder(tmp_path / "kernel") as folder:
        (tmp_path / "kernel" / f"key-{digest[:32]}.so").write_bytes(b"content")
        assert private_files.read_library(folder, "key") == (None, [f"key-{digest[:32]}.so"])
        assert private_files.read_library(folder, "ke") == (None, [])


def test_the_key_depends_on_what_the_library_is_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Sources, compiler, flags, instructions and type of numbers."""
    build = compiler.Build("avx2", "float", ["true"])
    others = {"command": ["env", "true"], "instructions": "baseline", "real": "double"}
    keys = {build.key(), *(build._replace(**{name: value}).key() for name, value in others.items())}
    (tmp_path / "other.c").write_text("")
    for name, value in (("SOURCES", (tmp_path / "other.c",)), ("FLAGS", ("-O0",))):
        with monkeypatch.context() as changed:
            changed.setattr(compiler, name, value)
            keys.add(build.key())
    assert len(keys) == 6


# --- which instructions, and the library of a wheel ------------------------------------------------


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("found", "chosen"), [("AVX512", "avx512"), ("AVX2", "avx2"), ("DEFAULT", "baseline"), ("SVE256", "baseline")]
)
def test_instructions_are_those_that_torch_has_found(found: str, chosen: str, packaged: Path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: found)
    assert anew()["path"] == str(packaged / f"kernel-{chosen}-float.so")
    assert library._kernel("double").path == packaged / f"kernel-{chosen}-double.so"


@pytest.fixture
def packaged(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as a wheel has it; all of its libraries are the one that this processor can run."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    for instructions in compiler.INSTRUCTIONS:
        for real in compiler.REALS:
            name = compiler.Build(instructions, real, []).name
            (folder / name).write_bytes((tmp_path / "made").read_bytes())
    monkeypatch.setattr(library, "FOLDER", folder)
    yield folder
    library._load.cache_clear()


@NEEDS_COMPILER
def test_the_library_of_a_wheel_needs_neither_compiler_nor_cache(
    packaged: Path, calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CC", "no-such-compiler-here")
    found = anew()
    assert (found["kernel"], found["reason"]) == ("packaged", None)
    assert Path(str(found["path"])).parent == packaged
    assert calls.read_text() == ""
    assert told.messages == []
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    assert anew()["kernel"] == "torch"


@NEEDS_COMPILER
def test_a_wheel_for_another_system_compiles(packaged: Path, calls: Path, told: pytest.LogCaptureFixture):
    for path in packaged.iterdir():
        path.write_bytes(b"no library")
    assert anew()["kernel"] == "compiled"
    assert calls.read_text() == "\n"
    (message,) = warnings(told)
    assert message.startswith("the curvature kernel of this package cannot be loaded")
    assert message.endswith("and is compiled anew")


LESS = """
import torch
from curvae.curvature import native
from curvae.curvature.native import kernel
torch.manual_seed(0)
for dtype in (torch.float32, torch.float64):
    weights, gram = [torch.randn(40, 5, dtype=dtype), torch.randn(33, 40, dtype=dtype)], torch.eye(33, dtype=dtype)
    masks = [(torch.rand(9, len(weight)) < 0.5).to(dtype) for weight in weights]
    lam, _ = kernel.precision(weights, masks, gram)
    torch.testing.assert_close(lam, kernel.dense_precision(weights, masks, gram))
print(native.kernel_in_use()["kernel"], native.kernel_in_use()["instructions"])
"""


@NEEDS_COMPILER
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="one set of instructions")
def test_the_baseline_computes_the_same():
    """A processor that has less than this one, or a torch that is told so."""
    condition = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    ended = subprocess.run([sys.executable, "-c", LESS], env=condition, capture_output=True, text=True, timeout=120)
    assert (ended.stdout.split(), ended.stderr) == (["compiled", "sse2"], "")


# --- calling it -----------------------------------------------------------------------------------

KINDS = {
    "size": "size",
    "size *": "ints",
    "int64_t *": "ints",
    "real *": "reals",
    "real *const *": "lists",
    "uint8_t *const *": "masks",
}


def prototypes() -> dict[str, list[str]]:
    """The functions of the C sources, and the kind of each argument."""
    text = "".join(source.read_text() for source in compiler.SOURCES)
    given = re.search(r"#define GIVEN(.*?)\n#", text, re.S)
    assert given
    found = re.findall(
        r"^int curvae_(\w+)\(([^)]*)\) \{", text.replace("GIVEN,", given[1].replace("\\", "") + ","), re.M
    )
    kinds = {}
    for name, arguments in found:
        words = (re.sub(r"\s+", " ", one).strip().removeprefix("const ") for one in arguments.split(","))
        kinds[name] = [KINDS[re.sub(r"\w+$", "", one).strip()] for one in words]
    return kinds


def test_what_is_passed_is_what_the_c_functions_take():
    assert {name: kinds.split() for name, kinds in c_calls.SIGNATURES.items()} == prototypes()


@NEEDS_COMPILER
@pytest.mark.parametrize(
    "wrong",
    [
        lambda size, tensor: (size, size, size, *(tensor,) * 5),
        lambda size, tensor: (size, size, size, *(tensor,) * 5, tensor.float()),
        lambda size, tensor: (size, size, size, *(tensor,) * 5, tensor.expand(2, 2)),
        lambda size, tensor: (size, size, 1.5, *(tensor,) * 6),
        lambda size, tensor: (size, size, size, *(tensor,) * 5, tensor.to("meta")),
    ],
)
def test_c_gets_no_argument_of_another_kind(wrong):
    with pytest.raises((ctypes.ArgumentError, TypeError)):
        native.call("last_backward", torch.float64, *wrong(0, torch.zeros(1, 1, dtype=torch.float64)))


@NEEDS_COMPILER
@pytest.mark.parametrize("real", compiler.REALS)
@pytest.mark.parametrize("instructions", compiler.INSTRUCTIONS)
def test_the_sources_give_no_warning(instructions: str, real: str):
    if instructions != "baseline" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("instructions of other processors")
    flags = [flag for flag in compiler.Build(instructions, real, []).flags if flag != "-shared"]
    words = [*shlex.split(os.environ.get("CC") or "cc"), *flags, "-Wall", "-Wextra", "-fsyntax-only"]
    ended = subprocess.run([*words, *map(str, compiler.SOURCES)], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
