"""The library of compiled code: made once, kept in the cache, and done without where it cannot be had."""

from pathlib import Path

import pytest
import torch

from curvae.curvature import kernel, native


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler-here", "true", "env false"])
def test_no_compiler_that_works(compiler, monkeypatch, tmp_path, capfd) -> None:
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    assert not native.available()
    weight, on = torch.tensor([[1.0, 0.0], [5.0, 5.0], [1.0, 2.0]]), torch.tensor([[True, False, True]])
    assert torch.equal(kernel.relu_precision([weight], [on], torch.eye(3)), torch.tensor([[[2.0, 2.0], [2.0, 4.0]]]))
    assert capfd.readouterr() == ("", "")


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("CURVAE_CACHE", str(blocked))
    assert not native.available()


@pytest.mark.skipif(not native.available(), reason="no C compiler here")
def test_compiled_once_into_the_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    assert native.available()
    (made,) = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    stamp = made.stat().st_mtime_ns
    native._load.cache_clear()
    assert native.available()
    assert made.stat().st_mtime_ns == stamp
