"""Kill a command at many moments, and see that the run is the old one or the new one, whole, and ends as it would have.

    python benchmarks/kill_run.py --points 20

``fit`` is killed (SIGKILL) and given again until it ends: the weights and the metrics must be those of a run that
nobody touched. ``evaluate`` and ``report`` are killed over what an earlier one wrote: what can be read afterwards is
the old result or the new one. The command given once more leaves no file that was begun.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightning  # noqa: F401  (imported once, before a command is given)

from curvae.cli import main
from curvae.evaluation import read_evaluation
from curvae.training import RunError, RunFolder

FIT = ["fit", "vae", "digits", "--latent", "2", "--hidden", "16", "--epochs", "4", "--no-progress", "--out"]
EVALUATE = ["evaluate", "--no-progress", "--limit", "60", "--samples"]


def run(*words: str, kill_at: int = 0) -> int:
    """The exit code of a command that kills itself before its ``kill_at``-th change of a folder, if it has so many."""
    return _forked(words, kill_at)[0]


def changes(*words: str) -> int:
    """How many changes of folders a command makes in all."""
    code, count = _forked(words, 0)
    assert code == 0, words
    return count


def _forked(words: Sequence[str], kill_at: int) -> tuple[int, int]:
    """Exit code and number of changes of a command in a process of its own; packages are imported once, here."""
    reading, writing = os.pipe()
    if (process := os.fork()) == 0:
        os.close(reading)
        done = Changes(kill_at)
        sys.addaudithook(done)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1), os.dup2(null, 2)
        code = main(list(words))
        os.write(writing, str(done.count).encode())
        os._exit(code)
    os.close(writing)
    status = os.waitpid(process, 0)[1]
    with os.fdopen(reading) as file:
        return os.waitstatus_to_exitcode(status), int(file.read() or 0)


class Changes:
    """Counts what changes a folder, and kills the process before one of them."""

    def __init__(self, kill_at: int):
        self.kill_at, self.count = kill_at, 0

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event in ("os.rename", "os.remove", "os.mkdir", "os.chmod") or (event == "open" and _writes(args)):
            self.count += 1
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _writes(args: tuple[object, ...]) -> bool:
    flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) and str(args[0]) != os.devnull


def moments(count: int, points: int) -> list[int]:
    """Some of ``1 .. count``, evenly, or the one in the middle."""
    if points == 1:
        return [1 + count // 2]
    return sorted({1 + round(i * (count - 1) / max(1, points - 1)) for i in range(points)})


def outcome(folder: Path) -> tuple[str, list[object]]:
    """What a finished run comes to: weights, and metrics without the seconds."""
    opened = RunFolder.open(folder)
    assert opened.state == "finished", opened.state
    opened.system()
    metrics = opened.metrics()
    return str(opened.digest()), [repr(metrics[name]) for name in metrics if name != "seconds"]


def litter(folder: Path) -> list[str]:
    return [each.name for each in folder.rglob(".*")]


def kill_fit(place: Path, points: int) -> list[str]:
    """Wrong ends of runs that were killed once, at each of some moments."""
    wrong = []
    count = changes(*FIT, str(place / "whole"))
    expected = outcome(place / "whole")
    for at in moments(count, points):
        folder = place / f"fit-{at}"
        code = run(*FIT, str(folder), kill_at=at)
        readable = not folder.exists() or _loads(folder)
        again = run(*FIT, str(folder)) if code == -signal.SIGKILL else code
        if not readable or again not in (0, 1) or outcome(folder) != expected or litter(folder):
            wrong.append(f"fit at {at} of {count}: {code}, {again}, readable {readable}, left {litter(folder)}")
        shutil.rmtree(folder)
    return wrong + [f"fit left {name}" for name in litter(place)]


def _loads(folder: Path) -> bool:
    """Whether the run can be read: weights that are there are whole."""
    opened = RunFolder.open(folder)
    if (folder / "model.safetensors").exists():
        opened.system()
    return opened.state in ("running", "finished")


def kill_over(place: Path, points: int, words: Sequence[str], state: Callable[[Path], str]) -> list[str]:
    """Wrong states after a command was killed over the results of the one before."""
    wrong, base = [], place / "base"
    folder = place / "run"
    shutil.copytree(base, folder)
    count = changes(*words, str(folder))
    old, new = state(base), state(folder)
    for at in moments(count, points):
        shutil.rmtree(folder)
        shutil.copytree(base, folder)
        code = run(*words, str(folder), kill_at=at)
        found = state(folder)
        again = run(*words, str(folder))
        if found not in (old, new) or again or state(folder) != new or litter(folder):
            wrong.append(f"{words[0]} at {at} of {count}: {code}, {again}, {found}, left {litter(folder)}")
    shutil.rmtree(folder)
    return wrong


def evaluated(folder: Path) -> str:
    """All numbers of an evaluation, or why they cannot be read."""
    try:
        found = read_evaluation(folder)
    except RunError as error:
        return str(error)
    digest = hashlib.sha256(json.dumps(found.result.to_dict() | {"seconds": 0}).encode())
    for part in (found.arrays, found.pictures):
        for name, values in sorted(part.items()):
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def reported(folder: Path) -> str:
    page = folder / "report.html"
    return hashlib.sha256(page.read_bytes()).hexdigest() if page.exists() else "none"


def kill_all(points: int) -> list[str]:
    """Everything that went wrong; nothing if all is right."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        wrong = kill_fit(place, points)
        (place / "whole").rename(place / "base")
        assert run(*EVALUATE, "30", str(place / "base")) == 0
        wrong += kill_over(place, points, [*EVALUATE, "40"], evaluated)
        assert run("report", str(place / "base")) == 0
        assert run(*EVALUATE, "50", str(place / "base")) == 0
        wrong += kill_over(place, points, ["report"], reported)
        return wrong


def command_line() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=20)
    chosen = parser.parse_args()
    start = time.monotonic()
    wrong = kill_all(chosen.points)
    print("\n".join(wrong) or f"killed at {chosen.points} moments each of fit, evaluate and report: all whole")
    print(f"{time.monotonic() - start:.0f} s")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(command_line())
