"""A peer's networks keep their function in a curvae system, and the table comes from the file alone."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import curvae

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers

    monkeypatch.setattr(peers, "LATENT", 2)
    monkeypatch.setattr(peers, "HIDDEN", 8)
    yield
    for name in ("peers", "peers_clock"):
        sys.modules.pop(name, None)


def mlp(*widths: int) -> nn.Sequential:
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in pairwise(widths)]
    return nn.Sequential(*[each for pair in layers for each in pair][:-1])


def test_adopted_networks_are_the_peers(tmp_path: Path):
    import peers

    encoder, decoder = mlp(64, 8, 8, 4), mlp(2, 8, 8, 64)
    nets = {"encoder": encoder, "decoder": decoder}
    weights = {
        f"{name}.net.{key}": value.numpy() for name, net in nets.items() for key, value in net.state_dict().items()
    }
    np.savez(tmp_path / "w.npz", eps_lf=np.ones(1), **weights)
    system = peers.adopted(tmp_path / "w.npz", curvae.data.load("digits", binarize="static"))
    x, z = torch.rand(5, 1, 8, 8).round(), torch.randn(5, 2)
    posterior = system.posterior(x)
    mean, log_variance = encoder(x.flatten(1)).chunk(2, dim=-1)
    assert torch.allclose(posterior.mean, mean, atol=1e-6)
    assert torch.allclose(posterior.covariance.diagonal(dim1=-2, dim2=-1).log(), log_variance, atol=1e-2)
    assert torch.allclose(system.model.decode(z), decoder(z), atol=1e-6)


@pytest.mark.parametrize("method", ["vae", "planar", "iaf", "hvae"])
def test_scales_start_at_one(method: str):
    import peers

    data = curvae.data.load("digits", binarize="static")
    inference = peers.made(method, data).inference
    start = getattr(inference, "start", None) or peers.made("vae", data).inference
    assert torch.allclose(start(None, data.test.batch(torch.arange(3))).posterior.variance, torch.ones(3, 2))
    encoder = next(each for each in inference.modules() if isinstance(each, peers.MLP))
    assert not encoder(data.test.x[:3])[:, 2:4].any()


def test_time_and_memory_of_work():
    from peers_clock import measured

    found = measured(lambda: torch.ones(2**25).sum())
    assert found["peak_mib"] - found["before_mib"] > 120
    assert 0 < found["cpu_seconds"] < 30


def test_the_table_has_ratios_and_the_paired_difference(tmp_path: Path):
    from peers import MARKS, publish

    def one(seconds: float, value: float) -> dict[str, float]:
        return {"cpu_seconds_an_epoch": seconds, "growth_mib": 100 * seconds, "log_likelihood": value}

    row = {"pythae": one(3.0, -100.0), "curvae": one(2.0, -99.0), "difference": {"value": 1.0, "stderr": 0.1}}
    (page := tmp_path / "page.md").write_text(f"before\n{MARKS[0]}{MARKS[1]}after\n")
    publish({"methods": {"vae": row}}, page)
    expected = "| VAE | 3.00 | 2.00 | 1.50 | 300 | 200 | 1.50 | -100.00 | -99.00 | +1.00 ± 0.10 |"
    assert expected in page.read_text().splitlines()
