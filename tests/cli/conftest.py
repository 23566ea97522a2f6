"""Runs that the command line made, in a folder of the test's own."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from command_line import TINY
from curvae.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits; read, never written."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["fit", "vae", "digits", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a CSV file with a label; the file is beside it."""
    folder = tmp_path_factory.mktemp("cli-table")
    rows = np.random.default_rng(0).normal(size=(60, 3))
    lines = ["u,g,r,class", *(",".join(f"{value:.4f}" for value in row) + ",STAR" for row in rows)]
    (folder / "stars.csv").write_text("\n".join(lines) + "\n")
    words = ["fit", "vae", str(folder / "stars.csv"), "--label", "class", *TINY, "--out", str(folder / "run")]
    assert main(words) == 0
    return folder / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to be written into, or spoiled."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def copy_of_table(table_run: Path, tmp_path: Path) -> Path:
    """The same of the run on a table."""
    shutil.copytree(table_run.parent, tmp_path / "tables")
    return tmp_path / "tables" / "run"
