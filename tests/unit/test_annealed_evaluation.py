"""Annealed importance sampling in the evaluator, on models whose evidence is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_evaluation_run import folder
from torch import nn

from curvae.data import ArrayTable, from_array
from curvae.evaluation import AnnealingPath, Evaluation, annealed, evaluate, read, score
from curvae.evaluation.summary import summarize_annealed, warn
from curvae.inference import AmortizedGaussian
from curvae.objectives import elbo
from curvae.systems import LatentSystem, vae
from zoo import D, LinearGaussian, P, TwoModes, batch_of


def system_of(oracle, size, outputs):
    return LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(outputs, 2 * size).double()), elbo)


@pytest.mark.statistical
def test_it_finds_the_evidence():
    """Every one of 8 + 3 data within 5 standard errors and a bit for its bias; failure rate below 1e-4."""
    for oracle, size, outputs in ((LinearGaussian(scale=0.5), D, P), (TwoModes(), 1, 1)):
        table = ArrayTable(oracle.x)
        found = annealed(system_of(oracle, size, outputs), table, temperatures=40, chains=64)
        oracle.x = table.x.double()
        error = np.abs(found["log_likelihood_ais"] - oracle.log_evidence().numpy())
        assert (error < 5 * found["stderr_ais"] + 0.01).all()
        assert (found["stderr_ais"] < 0.2).all()
        assert abs(found["acceptance_ais"].mean() - 0.65) < 0.1


@pytest.mark.statistical
@torch.no_grad()
def test_forward_and_backward_enclose_the_evidence():
    """Means over 200 chains; the latents that made the data are exact draws of their posteriors."""
    oracle = LinearGaussian(scale=0.5, count=200)
    z = torch.randn(200, D, dtype=torch.float64)
    noise = oracle.scale * torch.randn(200, P, dtype=torch.float64)
    oracle.x = z @ oracle.weight.mT + oracle.bias + noise
    gaps = []
    for temperatures in (10, 100):
        path = AnnealingPath.to(oracle.model, batch_of(oracle.x), temperatures)
        below = path.forward(1).log_weight.mean() - oracle.log_evidence().mean()
        above = -path.backward(z.unsqueeze(0)).log_weight.mean() - oracle.log_evidence().mean()
        assert below < 0.05
        assert above > -0.05
        gaps.append(above - below)
    assert gaps[1] < 0.2
    assert gaps[0] > 4 * gaps[1]


def test_a_wider_look_is_asked_for():
    """Two modes far apart: the proposals see one of them, the prior sees both."""
    oracle = TwoModes(scale=0.2)
    table = ArrayTable(oracle.x[2:])
    system = system_of(oracle, 1, 1)
    scores = score(system, table, samples=200)
    result = summarize_annealed(annealed(system, table, 100, chains=64), scores, 100, 64)
    assert result.difference.value == pytest.approx(np.log(2), abs=0.1)
    (said,) = warn(replace(Evaluation(), ais=result))
    assert "0." in said
    assert "the proposals miss a part of the posterior" in said


def test_evaluate_writes_it_beside_the_rest(tmp_path):
    data = from_array(torch.randn(300, 6))
    run = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    plain = evaluate(run, samples=40, progress=False)
    state = torch.get_rng_state()
    result = evaluate(run, samples=40, ais=12, ais_data=5, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    assert replace(result, ais=None, seconds=0) == replace(plain, seconds=0)
    assert (result.ais.count, result.ais.temperatures, result.ais.chains) == (5, 12, 16)
    assert abs(result.ais.difference.value) < 1
    values, arrays = read(run.path)
    assert Evaluation.from_dict(values) == result
    assert arrays["log_likelihood_ais"].shape == (5,)


def test_memory_does_not_change_how_many_are_done():
    oracle = LinearGaussian()
    found = annealed(system_of(oracle, D, P), ArrayTable(oracle.x), 3, chains=2, memory=1)
    assert found["index_ais"].tolist() == list(range(8))


def test_misuse(tmp_path):
    data = from_array(torch.randn(300, 6))
    run = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    with pytest.raises(ValueError, match=r"ais: temperatures must be 1 or more; got -1"):
        evaluate(run, ais=-1)
    with pytest.raises(ValueError, match=r"ais: data must be 1 or more; got 0"):
        evaluate(run, ais=5, ais_data=0)
    run.made.evidence = "none"
    with pytest.raises(ValueError, match=r"model that gives evidence; got LatentSystem .* Leave out ais"):
        evaluate(run, ais=5)
    assert list(run.path.iterdir()) == []
