"""The README's Python example runs as it is written."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (example,) = re.findall(r"```python\n(import torch, curvae\n.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    before, after = example.split("q = system.posterior(x_new)")
    names: dict = {}
    exec(before, names)
    names["x_new"] = names["data"].test.x[:3]
    exec("q = system.posterior(x_new)" + after, names)
    assert names["q"].covariance.shape == (3, 8, 8)
    assert names["posterior"].draw(5).z.shape == (5, 8, 3)
    assert names["result"].log_likelihood.stderr > 0
    assert (tmp_path / "runs" / "digits-vlae" / "model.safetensors").is_file()
