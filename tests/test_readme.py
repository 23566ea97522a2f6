"""The README's Python example runs as it is written."""

import re
from pathlib import Path

import numpy as np
import pytest

import curvae
from curvae.cli import main

README = Path(__file__).parent.parent / "README.md"


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (example,) = re.findall(r"```python\n(import torch, curvae\n.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    assert names["q"].covariance.shape == (3, 8, 8)
    assert names["posterior"].draw(5).z.shape == (5, 8, 3)
    assert names["result"].log_likelihood.stderr > 0
    assert (tmp_path / "runs" / "digits-vlae" / "model.safetensors").is_file()


def test_frame_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pandas = pytest.importorskip("pandas")
    (example,) = re.findall(r"```python\n(fitted = curvae.fit\(\"vlae\".*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    frame = pandas.DataFrame(random.normal([1000, 5], [10, 1], (60, 2)), columns=["u", "g"])
    frame = frame.assign(**{"class": ["QSO", "STAR"] * 30})
    names: dict = {"curvae": curvae, "frame": frame}
    exec(example, names)
    frame.head().to_csv("head.csv", index=False)
    assert main(["encode", "runs/stars", "head.csv", "--to", "head.npz"]) == 0
    with np.load("head.npz") as found:
        np.testing.assert_allclose(found["mean"], names["q"].mean, atol=1e-5)
        assert found["label"].tolist() == frame["class"].head().tolist()
