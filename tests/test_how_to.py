"""The how-to pages run, block after block, as they are written; here with short fits, whole in `make long`."""

import contextlib
import functools
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import curvae
from curvae.cli import main

FOLDER = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != "index")
WHOLE = os.environ.get("CURVAE_TEST_WHOLE") == "1"
SMALL = {
    "fit": "--max-updates 30",
    "evaluate": "--samples 20 --limit 20 --most 1",
    "score": "--samples 20",
    "traverse": "--steps 3",
    "ood": "--models 2 --samples 4 --steps 1 --limit 12 --reference 12",
}
"""Flags of commands here, which come last and win."""
LENGTHS = {"epochs", "max_updates", "minutes"}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block of a page that a reader is to run."""
    yield from re.findall(r"^```(python|bash)\n(.*?)^```", page.read_text(), re.S | re.M)


def command(line: str) -> None:
    """One line of a shell: a command of ours."""
    words = shlex.split(line, comments=True)
    assert words[0] == "curvae", line
    said = io.StringIO()
    small = [] if WHOLE or "--help" in words or "--dry-run" in words else SMALL.get(words[1], "").split()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*words[1:], *small])
    assert code == 0, f"{line}\n{said.getvalue()}"


def short(fit: Callable[..., Any]) -> Callable[..., Any]:
    """The same with few updates."""

    @functools.wraps(fit)
    def fit_briefly(*arguments: Any, **options: Any) -> Any:
        return fit(*arguments, **{name: each for name, each in options.items() if name not in LENGTHS}, max_updates=30)

    return fit_briefly


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.filterwarnings("default")
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as a shell's own folder is
    if not WHOLE:
        monkeypatch.setattr(curvae, "fit", short(curvae.fit))
        monkeypatch.setattr("curvae.evaluation.samples.engines.CHAINS", 50)  # as many draws, of shorter chains
        monkeypatch.setattr("curvae.evaluation.samples.engines.APART", 1)
    names: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page.name, "exec"), names)
        else:
            for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
                command(line)


def test_there_are_such_pages():
    assert len(PAGES) >= 10
    assert all(list(blocks(page)) for page in PAGES)
