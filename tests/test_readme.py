"""The README's Python examples run as they are written, and print what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

import curvae
from curvae import registry
from curvae.cli import main
from curvae.cli.info import TITLES

README = Path(__file__).parent.parent / "README.md"


def example(begin: str) -> str:
    """The block of the README that begins so."""
    (found,) = re.findall(rf"```python\n({re.escape(begin)}.*?)```", README.read_text(), re.DOTALL)
    return found


def test_twelve_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example("import curvae\n"), names)
    assert names["q"].covariance.shape == (3, 8, 8)
    assert names["result"].log_likelihood.stderr > 0
    assert (tmp_path / "runs" / "digits" / "model.safetensors").is_file()
    _, _, promised = README.read_text().partition("prints, among others,\n\n```\n")
    printed = capsys.readouterr().out
    for line in promised.partition("```")[0].splitlines():
        assert line[:33] in printed, line


def test_a_decoder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"curvae": curvae, "table": np.random.default_rng(0).normal(size=(60, 10))}
    exec(example("import torch\n"), names)
    assert names["fitted"].posterior(names["table"][:2]).covariance.shape == (2, 4, 4)


def test_frame_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    frame = pandas.DataFrame(random.normal([1000, 5], [10, 1], (60, 2)), columns=["u", "g"])
    frame = frame.assign(**{"class": ["QSO", "STAR"] * 30})
    names: dict = {"curvae": curvae, "frame": frame}
    exec(example('fitted = curvae.fit("vlae", frame'), names)
    frame.head().to_csv("head.csv", index=False)
    assert main(["encode", "runs/stars", "head.csv", "--to", "head.npz"]) == 0
    with np.load("head.npz") as found:
        np.testing.assert_allclose(found["mean"], names["q"].mean, atol=1e-5)
        assert found["label"].tolist() == frame["class"].head().tolist()


def test_the_page_of_systems_has_them_all_in_the_groups_of_the_list():
    page = (README.parent / "docs" / "choosing-a-system.md").read_text()
    groups = {title.lower(): body for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.M | re.DOTALL)}
    for purpose, title in TITLES.items():
        if names := registry.systems(purpose):
            rows = [row.split("|")[1] for row in groups[title].splitlines() if row.startswith("| `")]
            assert sorted(re.findall(r"`([\w-]+)`", " ".join(rows))) == sorted(names)
