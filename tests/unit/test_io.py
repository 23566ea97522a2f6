"""Files written whole, opened with suspicion, and parsed into what was promised or one line."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
import pytest

from curvae.io import FileError, atomic, formats, regular
from curvae.io.typed import Count, OneOf, Plain, Share, conform

WRITER = """
import os, signal, sys
from pathlib import Path
from curvae.io import atomic
with atomic.replacing(Path(sys.argv[1])) as beside:
    beside.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "a.txt"
    atomic.write(path, "old")
    with pytest.raises(TypeError), atomic.replacing(path) as beside:
        beside.write_text(beside.write_text("half"))
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_temporary_names_cannot_be_guessed_and_are_private(tmp_path: Path):
    seen = set()
    for _ in range(3):
        with atomic.replacing(tmp_path / "a.npz") as beside:
            seen.add(beside.name)
            assert atomic.BEGUN.fullmatch(beside.name)
            assert beside.suffix == ".npz"
            assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    assert len(seen) == 3


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_get_the_mode_of_the_users_mask(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        atomic.write(tmp_path / "a", b"x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_nothing_is_written_through_a_link(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("dear")
    (tmp_path / "link").symlink_to(victim)
    atomic.write(tmp_path / "link", "new")
    assert victim.read_text() == "dear"
    assert not (tmp_path / "link").is_symlink()
    (tmp_path / "log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        atomic.append(tmp_path / "log", "line")
    assert victim.read_text() == "dear"


def test_only_files_are_replaced(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match="something other than a file"):
            atomic.write(tmp_path / name, "x")
    assert {each.name for each in tmp_path.iterdir()} == {"folder", "pipe"}


def test_what_a_killed_process_left_is_swept_and_what_is_written_is_not(tmp_path: Path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".curvae-*"))) == 1
    (tmp_path / ".curvae-mine").write_text("not ours")
    (tmp_path / ".curvae-0123456789abcdef").symlink_to(tmp_path / ".curvae-mine")
    with atomic.replacing(tmp_path / "b.txt") as beside:
        atomic.remove_stale(tmp_path)
        assert beside.exists()
    assert {each.name for each in tmp_path.iterdir()} == {".curvae-mine", ".curvae-0123456789abcdef", "b.txt"}


def test_a_new_folder_is_held_from_its_first_moment(tmp_path: Path):
    with atomic.new_folder(tmp_path / "run") as (beside, handle):
        (beside / "a").write_text("x")
        assert not (tmp_path / "run").exists()
    with pytest.raises(BlockingIOError):
        atomic.lock(tmp_path / "run")
    atomic.unlock(handle)
    atomic.unlock(atomic.lock(tmp_path / "run"))
    with pytest.raises(FileExistsError, match="there already"), atomic.new_folder(tmp_path / "run"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_only_regular_files_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "long").write_bytes(b"x" * 11)
    told = {"pipe": "a pipe", "folder": "a folder", "loop": "cannot be read", "zero": "a device", "long": "at most 10"}
    for name, words in told.items():
        with pytest.raises(FileError, match=words):
            regular.read_regular(tmp_path / name, 10)
    with pytest.raises(FileNotFoundError):
        regular.read_regular(tmp_path / "none")


@pytest.mark.parametrize(
    "content",
    [b"{", b"[" * 10**5, b'{"a": NaN}', b'{"a": Infinity}', b"\xff", b"1" * 5000, b'"\\u12"'],
)
def test_bad_json_is_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FileError, match="expected JSON, got") as error:
        formats.read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "a: [1",
        "a: &x [1]\nb: *x",
        "&a [*a]",
        "!!python/object/apply:os.system [ls]",
        "{[1]: 2}",
        "[" * 10**5,
        "a: \x00",
    ],
)
def test_bad_yaml_is_one_line_and_runs_nothing(tmp_path: Path, content: str):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(FileError, match="expected YAML, got") as error:
        formats.read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)


def test_an_archive_is_not_inflated_without_measure(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(10**8, np.int8), y=np.ones(3))
    with pytest.raises(FileError, match=r"expected at most 8\d,\d{3},\d{3} bytes .* got 100,000,"):
        formats.read_npz(path)
    assert formats.read_npz(path, ["y"])["y"].tolist() == [1, 1, 1]
    np.savez(path, x=np.zeros(10**8, np.int8))
    assert formats.read_npz(path)["x"].nbytes == 10**8


def test_archives_of_something_else_are_one_line(tmp_path: Path):
    path, header = tmp_path / "a.npz", np.lib.format.magic(1, 0)
    wrong = {
        "objects": npy(np.array([{}], object)),
        "huge": header + b"\x76\x00" + str({"descr": "<f8", "fortran_order": False, "shape": (10**15,)}).encode(),
        "tokens": header + b"\x10\x00{'descr': '''    ",
        "cut": npy(np.ones(9))[:-4],
        "more": npy(np.ones(9)) + b"more",
        "text": b"hello",
    }
    for content in wrong.values():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(FileError, match=r"expected a \.npy array of numbers, got") as error:
            formats.read_npz(path)
        assert "\n" not in str(error.value)
    for content in (b"", b"PK", b"PK\x05\x06" + b"\x00" * 9):
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"expected a \.npz archive"):
            formats.read_npz(path)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


class Told(TypedDict):
    a: int
    b: NotRequired[Literal["x", "y"]]


@dataclass(frozen=True)
class Made:
    mean: float
    count: Count = 0
    shares: Mapping[Annotated[str, OneOf(("own", "other"))], Share] = field(default_factory=dict)
    within: "Made | None" = None


def test_values_become_what_was_promised():
    assert conform({"a": 1, "more": 2}, Told) == {"a": 1, "more": 2}
    made = conform({"mean": None, "shares": {"own": 1}, "within": {"mean": 2}, "more": 3}, Made)
    assert made.mean != made.mean
    assert made.shares == {"own": 1.0}
    assert made.within == Made(2.0)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ({}, Told, "file: expected 'a' in it, got none"),
        ({"a": True}, Told, "a: expected a whole number, got True"),
        ({"a": 1, "b": "z"}, Told, "b: expected one of x, y, got 'z'"),
        ([], Told, "file: expected names and values, got list"),
        ({"mean": "1"}, Made, "mean: expected a number, got '1'"),
        ({"mean": 1e300}, Made, "mean: expected a finite number"),
        ({"mean": 1, "count": -1}, Made, "count: expected a number from 0"),
        ({"mean": 1, "shares": {"own": 2}}, Made, "shares.own: expected a number from 0 to 1, got 2"),
        ({"mean": 1, "shares": {"mine": 1}}, Made, "shares: expected one of own, other, got 'mine'"),
        ({"mean": 1, "within": {"mean": []}}, Made, "within.mean: expected a number, got list"),
        ({"a": {1: 2}}, dict[str, Plain], "a: expected a plain value, got dict"),
        ({"a": "\ud800"}, dict[str, Plain], "a: expected whole letters"),
    ],
)
def test_other_values_are_named(value: Any, kind: Any, words: str):
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        conform(value, kind)


def test_what_is_sealed_shows_every_change(tmp_path: Path):
    from curvae.training import RunError
    from curvae.training.run import files

    path = tmp_path / "a.json"
    files.write_sealed(path, {"a": (1, 2.5), "b": "é"})
    value = files.read_json(path)
    files.check_seal(path, value, "mend it")
    for change in ({"a": [1, 2]}, {"z": 1}, {files.SEAL: "0"}, {files.SEAL: None}):
        with pytest.raises(RunError, match="something that was changed since; mend it"):
            files.check_seal(path, value | change, "mend it")
    files.check_seal(path, json.loads('{"format": 1, "a": 3}'), "mend it")
