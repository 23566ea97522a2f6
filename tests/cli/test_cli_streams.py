"""Streams that cannot hold what is printed, and files that a command writes for the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import fails, says

COMMAND = f"{sys.executable} -m curvae"


def shell(line: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(closed: str):
    assert shell(f"{COMMAND} --help {closed}")[0] == 0
    assert shell(f"{COMMAND} nonsense {closed}")[0] == 2


def test_a_reader_that_has_seen_enough_hears_nothing():
    assert shell(f"{COMMAND} --help | true")[2] == ""


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_work_that_is_done_is_not_undone_by_a_letter(copy: Path, environment: dict[str, str]):
    code, out, err = shell(f"{COMMAND} evaluate {copy} --samples 30 --limit 5 --no-progress", **environment)
    assert (code, err) == (0, "")
    assert "log p(x)" in out


def test_a_link_is_replaced_and_never_written_through(copy: Path, capsys: pytest.CaptureFixture[str]):
    Path("victim.npz").write_bytes(b"dear")
    Path("link.npz").symlink_to("victim.npz")
    Path("dangling.npz").symlink_to("nowhere.npz")
    for name in ("link.npz", "dangling.npz"):
        fails(capsys, ["sample", str(copy), "--to", name], 1, "expected nothing there, got an existing file")
    says(capsys, "sample", str(copy), "--to", "link.npz", "--force")
    assert Path("victim.npz").read_bytes() == b"dear"
    assert not Path("link.npz").is_symlink()
    os.mkfifo("pipe.npz")
    fails(capsys, ["sample", str(copy), "--to", "pipe.npz", "--force"], 1, "something other than a file")
    assert {path.name for path in Path().iterdir()} == {"copy", "victim.npz", "link.npz", "dangling.npz", "pipe.npz"}
