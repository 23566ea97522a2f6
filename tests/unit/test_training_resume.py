"""A run that was cut off ends with the numbers and weights of one that was not."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import curvae
from curvae import training
from curvae.io import atomic
from curvae.objectives import Bound
from curvae.training import RunError
from curvae.training.loop import checkpoint
from training_script import make
from training_toys import Toy, content, data_of, interrupt

SCRIPT = Path(__file__).parent.parent / "training_script.py"
TIME = ("seconds",)


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after each epoch, however short."""
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 1e9)


def same_run(one: Path, other: Path) -> None:
    first, second = curvae.RunFolder.open(one), curvae.RunFolder.open(other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    rows, others = first.metrics(), second.metrics()
    for name in rows.keys() - {"seconds"}:
        assert repr(rows[name]) == repr(others[name])  # NaN equals NaN
    assert rows["seconds"] == sorted(rows["seconds"])
    assert first.state == second.state == "finished"
    assert not (other / "resume.pt").exists()


@pytest.mark.parametrize(("kind", "call"), [("toy", 8), ("vlae", 26)])
def test_killed_and_started_again(tmp_path: Path, kind: str, call: int):
    """Call 26 of vlae lies in its second stage: before it come one look at the validation data
    and three epochs of 5 training batches and 1 of validation."""
    command = [sys.executable, str(SCRIPT), str(tmp_path / "killed"), kind, str(call), "1"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    before = curvae.RunFolder.open(tmp_path / "killed")
    assert before.state == "running"
    assert 0 < before.status["epoch"] < 6
    assert before.status["stage"] == (1 if kind == "vlae" else 0)
    for name in ("killed", "whole"):
        system, data, arguments = make(kind)
        training.fit(system, data, **arguments, device="cpu", out=tmp_path / name)
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("call", [1, 8, 10, 11, 16])
def test_interrupted_and_started_again(tmp_path: Path, call: int, saving: None):
    """In the first step, in the middle of a stage, at a stage's first step (10), and later."""
    for name, at in {"whole": {}, "cut": {call: interrupt}}.items():
        torch.manual_seed(0)
        system = Toy(noise=0.3)
        system.at = at
        arguments = {"epochs": 6, "batch_size": 20, "learning_rate": 0.1, "out": tmp_path / name}
        if at:
            with pytest.raises(KeyboardInterrupt):
                training.fit(system, data_of(), **arguments)
            torch.manual_seed(7)
            system = Toy(noise=0.3)
        training.fit(system, data_of(), **arguments)
    same_run(tmp_path / "whole", tmp_path / "cut")
    assert system.prepared.count("one") == 0  # not again


def test_rows_after_the_last_save_are_forgotten(tmp_path: Path, saving: None, monkeypatch: pytest.MonkeyPatch):
    system = Toy()
    system.at = {8: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    with (tmp_path / "run/metrics.csv").open("a") as file:
        file.write("one,3,9,1.0,-1,-1,-1,1,0,0,1\none,4,1")
    run = training.fit(Toy(), data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    assert run.metrics()["epoch"] == [1, 2, 3, 4, 5, 6]


def finished(path: Path) -> Path:
    return training.fit(Toy(), data_of(), epochs=2, out=path).path


def test_a_finished_run_says_so(tmp_path: Path):
    path = finished(tmp_path / "run")
    before = content(path)
    with pytest.raises(RunError, match="is finished already; it was left untouched"):
        finished(path)
    assert content(path) == before


def test_another_configuration_or_data_is_refused(tmp_path: Path):
    path = finished(tmp_path / "run")
    before = content(path)
    with pytest.raises(RunError, match=r"another configuration \(training.epochs was 2, is 3\)"):
        training.fit(Toy(), data_of(), epochs=3, out=path)
    with pytest.raises(RunError, match="other data"):
        training.fit(Toy(), data_of(60), epochs=2, out=path)
    assert content(path) == before


def test_a_folder_with_something_else_is_refused(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    with pytest.raises(RunError, match="holds something that is not a run of curvae"):
        finished(tmp_path / "photos")
    with pytest.raises(RunError, match="expected a folder, got the file"):
        finished(tmp_path / "photos/cat.jpg")
    assert content(tmp_path) == {"photos/cat.jpg": b"meow"}


def test_an_empty_folder_is_taken(tmp_path: Path):
    (tmp_path / "run").mkdir()
    assert curvae.RunFolder.open(finished(tmp_path / "run")).state == "finished"
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_two_processes_do_not_share_a_folder(tmp_path: Path):
    system = Toy()
    fit = lambda: training.fit(Toy(), data_of(), epochs=6, batch_size=20, out=tmp_path / "run")  # noqa: E731
    said: list[str] = []

    def meanwhile(bound: Bound) -> Bound:
        with pytest.raises(RunError) as error:
            fit()
        said.append(str(error.value))
        return bound

    system.at = {4: meanwhile}
    training.fit(system, data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    before = content(tmp_path)
    with pytest.raises(RunError, match="is finished already"):
        fit()
    assert said == [f"out: another process is training in {tmp_path / 'run'}; wait for it, or choose another out."]
    assert content(tmp_path) == before


def test_a_damaged_resume_file_is_named(tmp_path: Path, saving: None):
    system = Toy()
    system.at = {8: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    whole = (tmp_path / "run/resume.pt").read_bytes()
    (tmp_path / "run/resume.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        RunError, match=r"resume.pt: expected .* damaged file; delete it to start this run anew"
    ) as error:
        training.fit(Toy(), data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    assert "\n" not in str(error.value)
    (tmp_path / "run/resume.pt").unlink()
    run = training.fit(Toy(), data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    assert run.metrics()["epoch"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("place", [0, 20, 100, 2000, -1])
def test_a_bit_that_flipped_is_never_trained_on(tmp_path: Path, saving: None, place: int):
    system = Toy()
    system.at = {8: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    content = bytearray((tmp_path / "run/resume.pt").read_bytes())
    content[place] ^= 4
    (tmp_path / "run/resume.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"resume.pt: expected"):
        training.fit(Toy(), data_of(), epochs=6, batch_size=20, out=tmp_path / "run")


def test_a_slower_process_does_not_train_what_a_faster_one_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The run is finished between the look at an empty place and the folder that is put there."""
    new = atomic.new_folder

    @contextlib.contextmanager
    def late(path: Path):
        monkeypatch.undo()
        training.fit(Toy(), data_of(), epochs=6, out=path)
        with new(path) as made:
            yield made

    monkeypatch.setattr(atomic, "new_folder", late)
    with pytest.raises(RunError, match="is finished already"):
        training.fit(Toy(), data_of(), epochs=6, out=tmp_path / "run")
    assert curvae.RunFolder.open(tmp_path / "run").metrics()["epoch"] == [1, 2, 3, 4, 5, 6]
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_a_run_of_format_1_is_not_gone_on_with(tmp_path: Path, saving: None):
    system = Toy()
    system.at = {8: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=6, batch_size=20, out=tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    path.write_text(path.read_text().replace("format: 2", "format: 1"))
    with pytest.raises(RunError, match=r"unfinished run of curvae 0\.\d\.\d \(format 1\)"):
        training.fit(Toy(), data_of(), epochs=6, batch_size=20, out=tmp_path / "run")


def test_a_full_disk_is_one_line_and_destroys_nothing(tmp_path: Path, saving: None, monkeypatch: pytest.MonkeyPatch):
    import errno

    system, original = Toy(), atomic.os.fsync
    arguments = {"epochs": 6, "batch_size": 20, "learning_rate": 0.1, "schedule": "constant"}

    def full(handle: int) -> None:
        if system.calls > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle)

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); make room"):
        training.fit(system, data_of(), **arguments, out=tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run").glob(".*"))
    assert training.load(tmp_path / "run", system=Toy()).get_buffer("counter.step") == 6
    training.fit(Toy(), data_of(), **arguments, out=tmp_path / "run")
    training.fit(Toy(), data_of(), **arguments, out=tmp_path / "whole")
    same_run(tmp_path / "whole", tmp_path / "run")
