"""Bounds of log p(x) from both sides, on models whose evidence is known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from curvae.data import from_array
from curvae.evaluation import annealing, bracket
from curvae.inference import AmortizedGaussian
from curvae.objectives import elbo
from curvae.systems import LatentSystem, vae
from zoo import D, LinearGaussian, P, TwoModes


def system_of(oracle: LinearGaussian | TwoModes, size: int, outputs: int) -> LatentSystem:
    return LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(outputs, 2 * size).double()), elbo)


def drawn(oracle: LinearGaussian | TwoModes, count: int, seed: int = 0) -> torch.Tensor:
    """The data that the bracket draws."""
    with torch.no_grad():
        return oracle.model.sample(count, torch.Generator().manual_seed(seed))[0]


@pytest.mark.statistical
@pytest.mark.parametrize("make", [LinearGaussian, TwoModes])
def test_bounds_enclose_the_evidence(make):
    """Mean over 100 data of each bound on its side of the truth within 3 standard errors; 5e-3 of seeds fail."""
    oracle = make(scale=0.5)
    size, outputs = (D, P) if isinstance(oracle, LinearGaussian) else (1, 1)
    found = bracket(system_of(oracle, size, outputs), temperatures=12, count=100, samples=400)
    oracle.x = drawn(oracle, 100)
    truth = oracle.log_evidence().numpy()
    for below in (found.lower - truth, truth - found.upper):
        assert below.mean() < 3 * below.std(ddof=1) / 10
        assert below.mean() > -0.1
    assert found.width.value == pytest.approx((found.upper - found.lower).mean())
    assert found.narrow > 0.9
    assert (found.inside > 0.9) == isinstance(oracle, LinearGaussian)  # proposals that see one mode of two are caught


@pytest.mark.statistical
def test_data_that_need_them_get_the_temperatures_that_bring_the_bounds_together(monkeypatch):
    """Over 40 data; fails for less than 1e-3 of seeds."""
    system, widths = system_of(LinearGaussian(scale=0.2), D, P), []
    for most in (1, 16):
        monkeypatch.setattr(annealing, "MOST", most)
        widths.append(bracket(system, 10, count=40, chains=8, samples=50).width.value)
    assert widths[0] > 5 * widths[1]
    assert widths[1] < 0.3


def test_an_estimate_outside_is_seen():
    oracle = LinearGaussian()
    found = bracket(system_of(oracle, D, P), temperatures=4, count=10, samples=100)
    off = found.__class__(**{**found.__dict__, "sampled": found.sampled - 50.0})
    assert off.inside == 0
    flagged = found.__class__(**{**found.__dict__, "flagged": np.ones(10, dtype=bool)})
    assert np.isnan(flagged.inside)
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["lower"] == found.lower.tolist()
    assert written["width"]["value"] == pytest.approx(found.width.value)


def test_memory_and_generator_are_kept():
    oracle = LinearGaussian()
    system, state = system_of(oracle, D, P), torch.get_rng_state()
    found = bracket(system, temperatures=3, count=4, chains=2, samples=30, memory=2**14)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.lower.shape == (4,)


def test_misuse_is_named():
    system = vae(from_array(torch.randn(40, 5)).spec, latent=2, hidden=8)
    for wrong, words in (("temperatures", "temperatures"), ("count", "data"), ("chains", "chains")):
        with pytest.raises(ValueError, match=f"bracket: {words} must be 1 or more; got 0"):
            bracket(system, **{wrong: 0})  # pyright: ignore[reportArgumentType]
    system.evidence = "none"
    with pytest.raises(ValueError, match="bracket: needs a system with a latent-variable model that gives evidence"):
        bracket(system)
