"""Annealed importance sampling in the evaluator, on models whose evidence is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from chance import deviates, within
from curvae.data import ArrayTable, from_array
from curvae.evaluation import (
    STANDARD,
    AnnealedResult,
    Annealing,
    AnnealingPath,
    Estimate,
    Evaluation,
    Summary,
    annealed_importance_sampling,
    evaluate,
    read_evaluation,
    score,
)
from curvae.evaluation.likelihood import annealing, proposal
from curvae.evaluation.likelihood.annealing import (
    MOST,
    SPREAD,
    log_normal_limit,
    prior_to_joint_path,
    rows_to_anneal,
    spread,
)
from curvae.evaluation.likelihood.annealing_metric import flagged_annealed, summarize_annealed
from curvae.evaluation.summary import evaluation_warnings
from curvae.inference import AmortizedGaussian
from curvae.objectives import elbo
from curvae.systems import LatentSystem, vae
from folders import folder
from zoo import D, LinearGaussian, P, TwoModes, batch_of


def system_of(oracle, size, outputs):
    return LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(outputs, 2 * size).double()), elbo)


@pytest.mark.statistical
@pytest.mark.parametrize(("make", "size", "outputs"), [(LinearGaussian, D, P), (TwoModes, 1, 1)])
def test_it_finds_the_evidence(seed, monkeypatch, make, size, outputs):
    """Each example in units of the upper end of its error; limits by the tails over 200 seeds.

    The logarithm of a mean of 60 skewed weights is no normal deviate: it errs low, by half the square of its error.
    """
    monkeypatch.setattr(annealing, "MOST", 1)
    oracle = make(scale=0.7)
    table = ArrayTable(oracle.x)
    found = annealed_importance_sampling(
        system_of(oracle, size, outputs), table, temperatures=30, chains=120, seed=seed
    )
    oracle.x = table.x.double()
    error = found["log_likelihood_ais"] - oracle.log_evidence().numpy()
    within("log p(x)", np.abs(error) / found["limit_ais"], 4.5)
    within("error", found["stderr_ais"], 0.2)
    within("acceptance", abs(found["acceptance_ais"].mean() - 0.8), 0.12)


@pytest.mark.statistical
@torch.no_grad()
def test_forward_and_backward_enclose_the_evidence():
    """By Jensen the mean log weight is below log p(x), minus that of the way back above: 3e-7 of the seeds fail each.

    Means over 300 examples, one chain each; the latents that made them are exact draws of their posteriors. The bounds
    come together with the temperatures, by a limit from the tail over 200 seeds.
    """
    oracle, count = LinearGaussian(scale=0.5), 300
    z = torch.randn(count, D, dtype=torch.float64)
    oracle.x = z @ oracle.weight.mT + oracle.bias + oracle.scale * torch.randn(count, P, dtype=torch.float64)
    gaps = []
    for temperatures in (4, 24):
        path = AnnealingPath.to(oracle.model, batch_of(oracle.x), temperatures, chains=8)
        below = path.forward(1).log_weight[0] - oracle.log_evidence()
        above = -path.backward(z.unsqueeze(0)).log_weight[0] - oracle.log_evidence()
        for name, side in (("below", below), ("above", -above)):
            deviates(f"{name}, {temperatures}", side.mean() / (side.std() / count**0.5), sides=1)
        gaps.append((above - below).mean())
    within("gap, 24 over 4 temperatures", gaps[1] / gaps[0], 0.5)


def test_a_wider_look_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    """Two modes far apart: the proposals of a single search see one of them, the prior sees both."""
    monkeypatch.setattr(proposal, "SEVERAL", 0)
    oracle = TwoModes(scale=0.2)
    table = ArrayTable(oracle.x[2:])
    system = system_of(oracle, 1, 1)
    scores = score(system, table, samples=200)
    result = summarize_annealed(annealed_importance_sampling(system, table, 60, chains=400), scores, 60, 400)
    assert result.difference.value == pytest.approx(np.log(2), abs=0.15)
    (said,) = evaluation_warnings(replace(Evaluation(), ais=result))
    assert "0." in said
    assert "the proposals miss a part of the posterior" in said


@torch.no_grad()
def test_the_gram_matrix_gives_the_same_path():
    """In float64, at draws of the prior; and what it cannot do goes by the decoder itself."""
    model = vae(from_array(torch.randn(40, 12)).spec, latent=2, hidden=8).double().model
    batch = batch_of(torch.randn(5, 12, dtype=torch.float64))
    z = torch.randn(3, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(
        prior_to_joint_path(model, batch).end(z), model.log_joint(batch.x, z), atol=1e-10, rtol=0
    )
    masked = batch._replace(mask=torch.rand(5, 12) > 0.5)
    torch.testing.assert_close(
        prior_to_joint_path(model, masked).end(z), model.log_joint(masked.x, z, masked.mask), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.3])
def test_the_error_of_few_chains_is_on_the_safe_side(spread):
    """10,000 times 16 normal log weights: two errors cover 98.5 to 99.5 %; the usual ones 94 to 83 %."""
    log_w = np.random.default_rng(0).normal(-(spread**2) / 2, spread, (16, 10_000))
    found = np.log(np.exp(log_w).mean(0))
    assert 0.985 < (np.abs(found) < 2 * log_normal_limit(log_w)).mean() < 0.995
    usual = np.exp(log_w).std(0, ddof=1) / 4 / np.exp(log_w).mean(0)
    assert (np.abs(found) < 2 * usual).mean() < 0.945


def test_the_error_is_its_formula():
    """chi2_{0.05}(3) = 0.351846; log weights of variance 1/3."""
    log_w = np.array([[0.0], [0.5], [1.0], [-0.5]]) * np.sqrt(0.8)
    most = log_w.var(ddof=1) * 3 / 0.3518463
    assert log_normal_limit(log_w)[0] == pytest.approx(np.sqrt((np.exp(most) - 1) / 4), rel=1e-6)
    assert log_normal_limit(np.full((16, 2), -900.0)).tolist() == [0, 0]
    assert np.isnan(log_normal_limit(log_w[:1]))


def test_chains_that_got_stuck_do_not_count_as_spread():
    """Nine of ten chains are equal: however little the tenth is worth, it is 2 nats below; one far above counts."""
    log_w = np.where(np.arange(10)[:, None] == 0, [[-8.0, -800.0, -np.inf, 3.0]], 0.0)
    assert spread(log_w) == pytest.approx(np.sqrt(0.1) * np.array([2, 2, 2, 3]), rel=1e-9)
    rng = np.random.default_rng(0)
    assert [spread(rng.normal(0, s, (400, 1)))[0] for s in (0.3, 3.0)] == pytest.approx([0.3, 2.3], rel=0.1)


def corners(scale):
    """The linear-Gaussian model with three latents of one width, seen without noise at the corners of their cube."""
    oracle = LinearGaussian(scale=scale, lengths=(1.0, 1.0, 1.0))
    oracle.x = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * D) @ oracle.weight.mT
    oracle.x = oracle.x + oracle.bias
    oracle.batch = batch_of(oracle.x)
    return oracle


@torch.no_grad()
def test_each_datum_gets_the_temperatures_it_needs():
    """A sharp likelihood needs more of them, to where the spread is half a nat; both stay unbiased."""
    for scale, least, most in ((2.0, 1, 1), (0.5, 4, 8), (0.01, MOST, MOST)):
        oracle = corners(scale)
        factors = AnnealingPath.to(oracle.model, oracle.batch, 20, 100).factors()
        assert (factors >= least).all()
        assert (factors <= most).all()
    path = AnnealingPath.to(LinearGaussian().model, LinearGaussian().batch, 20, 4)
    assert path.finer(np.arange(3), 4).step.shape == (80, 3, 1)
    assert torch.equal(path.finer(np.arange(8), 4).step[::4], path.step)
    oracle = corners(0.5)
    found = annealed_importance_sampling(system_of(oracle, D, P), ArrayTable(oracle.x), 20, chains=100)
    assert set(found["temperatures_ais"].tolist()) <= {20, 40, 80, 160}
    assert found["temperatures_ais"].max() > 20
    assert (found["spread_ais"] < 1.3 * SPREAD).all()


def test_data_are_measured_in_their_order():
    """Whatever group they are in: each finds its own evidence."""
    oracle = LinearGaussian(scale=0.3)
    path = AnnealingPath.to(oracle.model, oracle.batch, 10, 16)
    path = path._replace(spread=np.array([2.0, 0.1, 0.6, 0.1, 2.0, 0.1, 0.6, 0.9]))
    assert path.factors().tolist() == [16, 1, 2, 1, 16, 1, 2, 4]
    found = path.each(
        lambda finer, rows: {"x": finer.batch.x[:, 0].numpy(), "rows": rows, "k": 0 * rows + len(finer.step)}
    )
    assert found["x"].tolist() == oracle.batch.x[:, 0].tolist()
    assert found["rows"].tolist() == list(range(8))
    assert found["k"].tolist() == [160, 10, 20, 10, 160, 10, 20, 40]
    assert path._replace(spread=np.full(8, np.nan)).factors().tolist() == [MOST] * 8


def test_data_that_cannot_be_trusted_are_counted_and_set_apart():
    values, index = np.zeros(4), np.arange(4)
    scores = {"index": index, "log_likelihood": values, "elbo": values, "log_det": values, "stderr_best": values + 0.1}
    scores |= {"limit_best": values + 0.1}
    scores["khat_best"] = np.array([0.1, 0.9, 0.1, 0.1])
    found = {
        "index_ais": index,
        "log_likelihood_ais": np.array([0.1, 0, 5, 0.2]),
        "stderr_ais": values + 0.01,
        "limit_ais": values + 0.05,
    }
    found |= {"ess_ais": values + 12, "acceptance_ais": values + 0.8, "spread_ais": np.array([0.5, 0.5, 1.1, 1.0])}
    found["temperatures_ais"] = np.array([300, 600, 4800, 300])
    assert flagged_annealed(found).tolist() == [False, False, True, False]
    result = summarize_annealed(found, scores, 300, 16)
    assert (result.count, result.compared, result.agreement, result.flagged) == (4, 2, 1.0, 1)
    assert result.taken == Summary(450, 4800, 0.25)
    (said, _) = evaluation_warnings(replace(Evaluation(), ais=result))
    assert said.startswith("1 of the data that were annealed are flagged: their log weights spread by more than 1 nat")
    assert Evaluation.from_dict(replace(Evaluation(), ais=result).to_dict()).ais == result
    found["log_likelihood_ais"][0] = np.nan
    assert summarize_annealed(found, scores, 300, 16).flagged == 2


def test_evaluations_of_earlier_versions_are_read():
    whole = Evaluation(ais=AnnealedResult(Estimate(-2.9, 0.2), Summary(12, 3, 0.1), 0.66, 300, 16, 40))
    values = whole.to_dict()
    for name in ("taken", "flagged"):
        del values["ais"][name]
    assert Evaluation.from_dict(values).ais.flagged == 0


def test_evaluate_writes_it_beside_the_rest(tmp_path):
    data = from_array(torch.randn(300, 6))
    run = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    plain = evaluate(run, samples=40, progress=False)
    state = torch.get_rng_state()
    result = evaluate(run, [*STANDARD, Annealing(12, data=5)], samples=40, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    assert replace(result, ais=None, seconds=0) == replace(plain, seconds=0)
    assert (result.ais.count, result.ais.temperatures, result.ais.chains) == (5, 12, 16)
    assert abs(result.ais.difference.value) < 1
    values, arrays, *_ = read_evaluation(run.path)
    assert Evaluation.from_dict(values) == result
    assert arrays["log_likelihood_ais"].shape == (5,)


def test_memory_does_not_change_how_many_are_done():
    oracle = LinearGaussian()
    found = annealed_importance_sampling(system_of(oracle, D, P), ArrayTable(oracle.x), 2, chains=2, memory=1)
    assert found["index_ais"].tolist() == list(range(8))
    fit = [rows_to_anneal(oracle.model, oracle.batch, k, 16, 2**28) for k in (1, 300, 30_000)]
    assert fit[0] > fit[1] > fit[2] > 0
    assert fit[2] * 30_000 * MOST * 16 * 8 < 2**28


def test_misuse(tmp_path):
    data = from_array(torch.randn(300, 6))
    run = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    with pytest.raises(ValueError, match=r"ais: temperatures must be 1 or more; got -1"):
        evaluate(run, [Annealing(-1)])
    with pytest.raises(ValueError, match=r"ais: data must be 1 or more; got 0"):
        evaluate(run, [Annealing(5, data=0)])
    assert run.trained is not None
    run.trained.evidence = "none"
    with pytest.raises(ValueError, match=r"model that gives evidence; got LatentSystem .* Leave out ais"):
        evaluate(run, [Annealing(5)])
    assert run.evaluation is None
