"""How work goes: a bar on a terminal, lines elsewhere, and a terminal that is left as it was."""

import contextlib
import io
import itertools
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from curvae import progress, training
from curvae.evaluation.likelihood.scores import bar
from training_toys import Toy, data_of, interrupt

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, moved by the test."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def on_screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal; called within the test, as pytest takes it back after the fixtures."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


def test_a_line_every_half_a_minute_with_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]):
    with progress.progress(total=100, done=20) as work:
        for done in range(21, 61):
            clock[0] += 2.0
            work.show(done, "stage one", f"bound {-done}.00")
    assert capsys.readouterr().err.splitlines() == [
        "stage one  bound -35.00  0:02:10 left",
        "stage one  bound -50.00  0:01:40 left",
    ]


def test_it_is_not_due_before(clock: list[float]):
    with progress.progress(total=100) as work:
        clock[0] += 29.9
        assert not work.due()
        clock[0] += 0.2
        assert work.due()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, clock: list[float]):
    terminal = on_screen(monkeypatch)
    with progress.progress(total=10, done=3) as work:
        assert work.due()
        work.show(4, "stage one", "bound -1.00")
        assert not work.due()
        clock[0] += 0.3
        assert work.due()
    shown = terminal.getvalue()
    assert "stage one" in shown
    assert "4/10" in shown
    assert "bound -1.00" in shown


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_ends_it_the_terminal_is_as_it_was(error: type[BaseException], monkeypatch: pytest.MonkeyPatch):
    terminal = on_screen(monkeypatch)
    with pytest.raises(error), progress.progress(total=10):
        raise error
    assert terminal.getvalue().count(HIDE_CURSOR) == terminal.getvalue().count(SHOW_CURSOR) == 1
    assert terminal.getvalue().rindex(SHOW_CURSOR) > terminal.getvalue().rindex(HIDE_CURSOR)


def test_ctrl_c_in_training_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    terminal = on_screen(monkeypatch)
    system = Toy()
    system.at = {2: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=4, batch_size=20, out=tmp_path / "run")
    assert terminal.getvalue().count(HIDE_CURSOR) == terminal.getvalue().count(SHOW_CURSOR) == 1


def test_the_bar_of_training_shows_stage_and_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    terminal = on_screen(monkeypatch)
    run = training.fit(Toy(), data_of(), epochs=4, batch_size=20, out=tmp_path / "run")
    shown = terminal.getvalue()
    for part in ("stage 1/2 one  epoch 1/2", "stage 2/2 two  epoch 2/2", "6/6", "bound -", "|grad| ", "not ok "):
        assert part in shown
    assert shown.endswith(f"nats after epoch 4: {run.path}\n")


def test_without_a_terminal_training_says_how_it_goes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Stages, epochs, bounds and the time left; at the end the best bound, and where the run lies."""
    monkeypatch.setattr(progress.Lines, "every", 0.0)
    run = training.fit(
        Toy(), data_of(), epochs=4, batch_size=20, learning_rate=0.1, schedule="constant", out=tmp_path / "run"
    )
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "stage 1/2 one: 2 epochs"
    assert lines[1].startswith("stage 1/2 one  epoch 1/2  bound -")
    assert lines[1].endswith(" left")
    best = max(run.metrics()["validation_bound"][:2])
    ended = "ended after 2 epochs"
    assert f"stage 1/2 one: {ended}, 6 updates, best validation bound {best:.4f} nats after epoch 2" in lines
    best = max(run.metrics()["validation_surrogate"][2:])
    surrogate = f"best validation surrogate {best:.4f} nats after epoch 4"
    assert lines[-2] == f"stage 2/2 two: {ended}, 12 updates, {surrogate}"
    assert lines[-1] == f"{surrogate}: {run.path}"


def test_between_two_lines_training_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    training.fit(Toy(), data_of(), epochs=4, batch_size=20, out=tmp_path / "run")
    assert not [line for line in capfd.readouterr().err.splitlines() if line.endswith("left")]


def test_no_progress_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    training.fit(Toy(), data_of(), epochs=4, out=tmp_path / "run", progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_run_taken_up_says_what_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    system = Toy()
    system.at = {8: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=8, batch_size=20, out=tmp_path / "run", progress=False)
    training.fit(Toy(), data_of(), epochs=8, batch_size=20, out=tmp_path / "run")
    first = capfd.readouterr().err.splitlines()[0]
    assert first.startswith("stage 1/2 one: 4 epochs")


def test_evaluation_likewise(clock: list[float], capsys: pytest.CaptureFixture[str]):
    with bar(40) as report:
        assert report is not None
        for done, running in zip(range(10, 41, 10), itertools.count(-9.5), strict=False):
            clock[0] += 20.0
            report(done, running)
    assert capsys.readouterr().err.splitlines() == [
        "evaluating 20/40  log p(x) -8.50 nats  0:00:40 left",
        "evaluating 40/40  log p(x) -6.50 nats  0:00:00 left",
    ]


@pytest.mark.parametrize("stream", [None, "closed", "pipe"])
def test_nobody_who_reads_it_ends_nothing(stream: str | None, monkeypatch: pytest.MonkeyPatch):
    nobody = _stream(stream)
    monkeypatch.setattr(sys, "stderr", nobody)
    assert not progress.on_terminal()
    progress.say("a line")
    if nobody is not None:
        with contextlib.suppress(OSError):  # what the pipe did not take
            nobody.close()


def _stream(kind: str | None) -> io.TextIOBase | None:
    if kind == "closed":
        closed = io.StringIO()
        closed.close()
        return closed
    if kind == "pipe":
        read, write = os.pipe()
        os.close(read)
        return os.fdopen(write, "w", buffering=1)
    return None


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch):
    terminal = on_screen(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.progress(3), progress.Lines)
    assert isinstance(progress.progress(3, console=Console(file=terminal)), progress.Bar)
