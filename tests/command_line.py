"""The command line in tests: what it says, how it fails, what it left."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from curvae.cli import main

TINY = ["--latent", "2", "--hidden", "16", "--epochs", "2", "--no-progress"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def says(capsys: pytest.CaptureFixture[str], *words: str, noting: str = "") -> str:
    """What a command prints; on stderr nothing, or one line that holds ``noting``."""
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    out, err = capsys.readouterr()
    assert noting in err
    assert err.count("\n") == bool(noting), err
    return out


def fails(capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int, *parts: str) -> None:
    capsys.readouterr()
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("curvae: error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err


def numbers(run: Path) -> list[list[str]]:
    """The metrics without the seconds."""
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    place = rows[0].index("seconds")
    return [row[:place] + row[place + 1 :] for row in rows]
