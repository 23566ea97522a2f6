"""What takes seconds to import is imported by what needs it: Lightning by training itself alone."""

import subprocess
import sys
from pathlib import Path

import pytest

LATE = ("lightning", "sklearn", "scipy.stats", "matplotlib", "arviz_stats", "pandas", "pooch")

CODE = """
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
{body}
print(*[name for name in {late!r} if name in sys.modules])
"""


def imported(body: str, late: tuple[str, ...] = LATE) -> list[str]:
    """Which of these packages a new process has imported after these lines."""
    code = CODE.format(body=body, late=late)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def command(code: int, *words: str) -> str:
    return (
        "from curvae.cli import main\n"
        f"with redirect_stdout(StringIO()) as out, redirect_stderr(out): code = main({list(words)!r})\n"
        f"assert code == {code}, out.getvalue()"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ["fit", "vlae", "--help"]),
        (0, ["fit", "vlae", "digits", "--help"]),
        (0, ["list"]),
        (0, ["doctor"]),
        (0, ["evaluate", "--help"]),
        (2, ["fit", "vlea", "digits"]),
        (2, ["fit", "vlae", "digts"]),
        (2, ["fit", "vlae", "digits", "--epochs", "0"]),
    ],
)
def test_commands_without_a_run(code: int, words: list[str]):
    assert imported(command(code, *words)) == []


def test_encode_and_sample(run: Path):
    both = "\n".join([command(0, "encode", str(run), "test"), command(0, "sample", str(run))])
    assert imported(both) == []


def test_evaluate_report_and_compare(copy: Path):
    """They compute and draw; only training trains."""
    other = str(copy.parent / "other")
    words = ("evaluate", str(copy), "--samples", "20", "--limit", "10", "--no-progress")
    copied = f"import shutil; shutil.copytree({str(copy)!r}, {other!r})"
    every = [command(0, *words), copied, command(0, "report", other), command(0, "compare", str(copy), other)]
    assert imported("\n".join(every), ("lightning",)) == []


def test_python():
    names = ("fit", "load", "RunFolder", "evaluate", "data", "compare")
    assert imported("import curvae; " + ", ".join(f"curvae.{name}" for name in names)) == []


def test_training_is_what_imports_it():
    """So the tests above look for something that would be there."""
    assert imported("import curvae.training.loop.stages", ("lightning",)) == ["lightning"]
