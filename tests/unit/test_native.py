"""The library of compiled code: made once, loaded only where it can be trusted, and done without where it cannot be."""

import ctypes
import hashlib
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from curvae.curvature import kernel, native
from curvae.curvature.native import compiler, library, private

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
    made.write_bytes(Path(str(native.describe()["path"])).read_bytes())
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
    return native.describe()


def warnings(told: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in told.records if record.levelno >= logging.WARNING]


# --- compiling ------------------------------------------------------------------------------------


@NEEDS_COMPILER
def test_compiled_once_into_the_cache(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    found = anew()
    assert told.messages == ["compiling the curvature kernel once for this processor, about 5 s"]
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
    found = native.describe()
    assert found["instructions"] in ("avx512", "avx2", "avx", "sse2", "neon", "generic")
    assert found["vector_bytes"] == {"avx512": 64, "avx2": 32, "avx": 32}.get(str(found["instructions"]), 16)
    assert found["torch"] == torch.backends.cpu.get_cpu_capability()
    assert found["reason"] is None


def test_switched_off_is_described(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    found = native.describe()
    assert (found["kernel"], found["path"], found["instructions"]) == ("torch", None, None)
    assert found["reason"] == "switched off by CURVAE_KERNEL=0"


BROKEN = """#!/bin/sh
[ "$1" = --version ] && exit 0
echo "In file included from somewhere" >&2
echo "kernel.c:17:10: fatal error: native.h: No such file" >&2
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
        ("BROKEN", "WARNING", "cc: kernel.c:17:10: fatal error: native.h: No such file)"),
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
    assert native.describe()["reason"]
    assert capfd.readouterr() == ("", "")


@NEEDS_COMPILER
def test_processes_that_compile_at_once(calls: Path, tmp_path: Path):
    code = "from curvae.curvature import native; print(native.describe()['path'])"
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
    return path.rename(path.with_name(private.name(path.name.partition("-")[0], b"other")))


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
    planted = kept(tmp_path).with_name(private.name(kept(tmp_path).name.partition("-")[0], b"evil"))
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
    monkeypatch.setattr(private.os, "geteuid", lambda: os.getuid() + 1)
    assert_for_this_process_alone(anew(), calls, told, "kernel belongs to another user; remove it")


@NEEDS_OWNERS
def test_the_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with private.folder(tmp_path / "kernel") as folder:
        private.write(folder, "key", b"content")
        assert private.read(folder, "key") == (b"content", [])
        monkeypatch.setattr(private.os, "geteuid", lambda: os.getuid() + 1)
        assert private.read(folder, "key") == (None, [private.name("key", b"content")])


@NEEDS_COMPILER
def test_a_cache_that_cannot_be_made(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture):
    (tmp_path / "cache").write_text("")
    assert_for_this_process_alone(anew(), calls, told, "File exists")


@NEEDS_COMPILER
def test_a_full_disk(calls: Path, tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object, **places: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private.os, "replace", full)
    assert_for_this_process_alone(anew(), calls, told, "No space left on device")
    assert list((tmp_path / "cache" / "kernel").iterdir()) == []


@NEEDS_COMPILER
def test_a_system_without_owners(calls: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(private.os, "geteuid")
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
    found, path, read = anew(), kept(tmp_path), private.read

    def then_cut(folder: int, key: str):
        content = read(folder, key)
        cut(path)
        return content

    monkeypatch.setattr(private, "read", then_cut)
    assert anew() == found
    assert isinstance(library.library(), ctypes.CDLL)


@NEEDS_OWNERS
def test_a_digest_beside_another_name_is_none(tmp_path: Path):
    digest = hashlib.sha256(b"content").hexdigest()
    with private.folder(tmp_path / "kernel") as folder:
        (tmp_path / "kernel" / f"key-{digest[:32]}.so").write_bytes(b"content")
        assert private.read(folder, "key") == (None, [f"key-{digest[:32]}.so"])
        assert private.read(folder, "ke") == (None, [])


def test_the_key_depends_on_what_the_library_is_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Sources, compiler, flags and processor."""
    keys = {compiler.key(["true"]), compiler.key(["env", "true"])}
    (tmp_path / "other.c").write_text("")
    for name, value in (("SOURCES", (tmp_path / "other.c",)), ("FLAGS", ("-O0",)), ("_processor", lambda: b"other")):
        with monkeypatch.context() as changed:
            changed.setattr(compiler, name, value)
            keys.add(compiler.key(["true"]))
    assert len(keys) == 5
