"""The numbers of the evaluator against oracles: exact evidence, quadrature, closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from curvae.data import ArrayTable
from curvae.data.transforms import Dequantization
from curvae.distributions.gaussian import unpack
from curvae.evaluation import Estimate, Widened, estimate, khat, posterior_weights, score, summarize
from curvae.evaluation.information.posterior_summary import marginal_kl_to_prior
from curvae.evaluation.likelihood.importance import collect, estimates, even, system_weights
from curvae.evaluation.likelihood.proposal import widen
from curvae.inference import AmortizedFullGaussian, AmortizedGaussian, Laplace
from curvae.likelihoods import Categorical, Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import Bound, Cubo, Renyi, WakePhi, elbo
from curvae.posteriors import DiagonalGaussian, FullGaussian, PrecisionGaussian, kl
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, System, Weights
from curvae.typing import Batch
from zoo import D, LinearGaussian, P


def linear_system(oracle: LinearGaussian) -> LatentSystem:
    """Its own posterior is exact: two undamped Newton steps of a quadratic."""
    return LatentSystem(oracle.model, Laplace(AmortizedGaussian(nn.Linear(P, 2 * D).double()), steps=2), elbo)


def table_of(oracle: LinearGaussian, mask: torch.Tensor | None = None) -> ArrayTable:
    """The oracle's data as a table; the oracle then holds what the table rounds them to."""
    table = ArrayTable(oracle.x, mask=mask)
    oracle.x = table.x.double()
    return table


class Toy(System):
    """No latent-variable model: log p(x) = -|x|^2, known exactly or through weights, and not from its objective."""

    def __init__(self, evidence: str):
        super().__init__()
        self.evidence = evidence

    def bound(self, batch: Batch) -> Bound:
        value = torch.full((len(batch.x),), torch.nan)
        return Bound(value, value)

    def log_prob(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return -x.square().sum(-1)

    def log_weights(self, batch: Batch, n: int, generator: torch.Generator | None = None) -> Weights:
        noise = 0.1 * torch.randn(n, len(batch.x), generator=generator)
        log_w = -batch.x.square().sum(-1) + noise - 0.005
        return Weights(log_w, torch.full_like(log_w, -math.log(n)))

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(n, 2, generator=generator)


def test_exact_posterior_gives_the_evidence_without_error():
    oracle = LinearGaussian()
    table = table_of(oracle)
    found = score(linear_system(oracle), table, samples=200)
    exact = oracle.log_evidence().numpy()
    for name in ("log_likelihood_own", "elbo"):
        np.testing.assert_allclose(found[name], exact, atol=1e-10)
    np.testing.assert_allclose(found["ess_own"], 200, rtol=1e-10)
    np.testing.assert_allclose(found["stderr_own"], 0, atol=1e-10)
    assert (found["khat_own"] < 0.7).all()


def test_unwidened_laplace_is_exact_and_width_costs_what_the_docstring_says():
    oracle = LinearGaussian()
    system = linear_system(oracle)
    with torch.no_grad():
        search = Laplace(system.inference, 8)
        narrow, wide = (Widened(search, width)(oracle.model, oracle.batch).posterior for width in (1.0, 1.1))
        exact = estimates(posterior_weights(oracle.model, narrow, oracle.batch, 100))
        spread = estimates(posterior_weights(oracle.model, wide, oracle.batch, 20000))
    np.testing.assert_allclose(exact.log_likelihood, oracle.log_evidence().numpy(), atol=1e-10)
    np.testing.assert_allclose(exact.ess, 100, rtol=1e-10)
    np.testing.assert_allclose(spread.ess / 20000, (math.sqrt(1.2) / 1.1) ** D, atol=2e-3)
    assert (np.abs(spread.log_likelihood - oracle.log_evidence().numpy()) < 5 * spread.stderr).all()


def test_masked_data_are_scored_by_what_is_observed():
    oracle = LinearGaussian()
    mask = torch.rand(len(oracle.x), P) > 0.4
    table = table_of(oracle, mask)
    found = score(linear_system(oracle), table, samples=50)
    marginal = oracle.marginal()
    for i, seen in enumerate(mask):
        part = torch.distributions.MultivariateNormal(marginal.loc[seen], marginal.covariance_matrix[seen][:, seen])
        assert found["log_likelihood_own"][i] == pytest.approx(float(part.log_prob(oracle.x[i, seen])), abs=1e-10)
    assert found["size"].tolist() == mask.sum(1).tolist()


def test_chunks_of_the_same_draws_are_one_set():
    log_w = torch.randn(103, 4, dtype=torch.float64)
    chunks = iter(log_w.split(even(103, 18)))

    def draw(n: int) -> Weights:
        part = next(chunks)
        return Weights(part, torch.full_like(part, -math.log(n)))

    chunked = estimates(collect(draw, 103, 18))
    whole = estimate(log_w.numpy(), np.full((103, 4), -math.log(103)))
    for name, ours, theirs in zip(whole._fields, chunked, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12, err_msg=name)


def test_chunks_count_by_their_draws():
    log_w, mixing = torch.randn(103, 4, dtype=torch.float64), torch.rand(103, 4, dtype=torch.float64)
    parts = [
        Weights(part, weight.log() - weight.log().logsumexp(0))
        for part, weight in zip(log_w.split(even(103, 20)), mixing.split(even(103, 20)), strict=True)
    ]
    each = torch.stack([(part.log_c + part.log_w).exp().sum(0) for part in parts])
    share = torch.tensor(even(103, 20), dtype=torch.float64)[:, None] / 103
    chunks = iter(parts)
    found = estimates(collect(lambda n: next(chunks), 103, 20))
    np.testing.assert_allclose(found.log_likelihood, (each * share).sum(0).log().numpy(), rtol=1e-12, atol=1e-12)


def test_even_parts():
    for total, most in [(1, 1), (500, 500), (500, 499), (7, 3), (500, 10**9)]:
        parts = even(total, most)
        assert sum(parts) == total
        assert max(parts) <= most
        assert max(parts) - min(parts) <= 1


def test_delta_method_within_one_stratum():
    log_w = np.random.default_rng(0).normal(size=(300, 5))
    found = estimate(log_w, np.full((300, 5), -math.log(300)))
    w = np.exp(log_w)
    np.testing.assert_allclose(found.stderr, w.std(0, ddof=1) / (math.sqrt(300) * w.mean(0)), rtol=1e-12)
    np.testing.assert_allclose(found.ess, w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-12)
    np.testing.assert_allclose(found.log_likelihood, np.log(w.mean(0)), rtol=1e-12)


def test_strata_take_their_own_mean_off():
    log_c = np.log(np.repeat([0.3 / 50, 0.7 / 50], 50))[:, None]
    log_w = np.repeat([0.0, 5.0], 50)[:, None]
    assert estimate(log_w, log_c).stderr[0] == pytest.approx(0, abs=1e-12)
    noisy = log_w + np.random.default_rng(0).normal(size=log_w.shape)
    w = np.exp(noisy[:, 0]).reshape(2, 50)
    variance = sum((c / 50) ** 2 * 50 * part.var(ddof=1) for c, part in zip([0.3, 0.7], w, strict=True))
    total = 0.3 * w[0].mean() + 0.7 * w[1].mean()
    assert estimate(noisy, log_c).stderr[0] == pytest.approx(math.sqrt(variance) / total, rel=1e-10)


def test_the_limit_of_an_error_is_its_formula():
    """One stratum, and two of other mixing weights, by SciPy's kurtosis."""
    rng = np.random.default_rng(0)
    w = rng.gamma(2.0, size=(2, 60))
    for parts, mixing in (((w.reshape(1, -1)), [1.0]), (w, [0.3, 0.7])):
        log_c = np.concatenate([np.full(len(u), math.log(m / len(u))) for u, m in zip(parts, mixing, strict=True)])
        found = estimate(np.log(parts.reshape(-1, 1)), log_c[:, None])
        each = [m**2 * u.var(ddof=1) / len(u) for u, m in zip(parts, mixing, strict=True)]
        doubt = sum(v**2 * (stats.kurtosis(u, fisher=False) - 1) / len(u) for u, v in zip(parts, each, strict=True))
        freedom = 2 * sum(each) ** 2 / doubt
        factor = math.sqrt(freedom / stats.chi2.ppf(0.05, freedom))
        assert found.limit[0] == pytest.approx(factor * found.stderr[0], rel=1e-9)
        assert 1 < factor < 2


@pytest.mark.parametrize(("count", "normal"), [(300, True), (500, False)])
def test_the_limit_of_an_error_is_above_it_for_19_of_20(count, normal):
    """4,000 repetitions: the true error is below for 95 ± 1.5 % of nearly normal weights, 90 % of skewed ones."""
    rng = np.random.default_rng(0)
    w = 1 + 0.1 * rng.normal(size=(count, 4000)) if normal else rng.gamma(0.2, size=(count, 4000))
    found = estimate(np.log(w), np.full(w.shape, -math.log(count)))
    covered = (np.log(w.mean(0)).std() < found.limit).mean()
    assert covered == pytest.approx(0.95, abs=0.015) if normal else covered > 0.9
    assert (np.log(w.mean(0)).std() < found.stderr).mean() < 0.6


def test_equal_weights_have_no_limit_either():
    assert estimate(np.full((100, 2), -3.0), np.full((100, 2), -math.log(100))).limit == pytest.approx(0, abs=1e-12)
    assert np.isnan(estimate(np.zeros((1, 1)), np.zeros((1, 1))).limit)


def test_an_enumerated_posterior_has_no_error():
    log_pi = np.log([[0.2], [0.3], [0.5]])
    found = estimate(np.array([[-1.0], [-2.0], [-3.0]]), log_pi)
    assert found.stderr[0] == 0
    assert found.log_likelihood[0] == pytest.approx(math.log(0.2 / math.e + 0.3 / math.e**2 + 0.5 / math.e**3))


def test_khat_of_edge_cases():
    draws = np.random.default_rng(0).normal(size=(500, 1))
    assert np.isnan(khat(draws[:24])).all()
    assert np.isfinite(khat(draws[:25])).all()
    assert khat(np.zeros((500, 1)))[0] == 0
    assert np.isnan(khat(np.where(np.arange(500)[:, None] == 3, np.nan, draws)))[0]
    for spread in (10, 100, 300, 1000, 1e5):
        assert khat(spread * draws)[0] > 3
    assert khat(np.where(np.arange(500)[:, None] < 3, draws, -np.inf))[0] == np.inf
    assert khat(draws - 1e5)[0] == pytest.approx(khat(draws)[0], abs=1e-6)
    assert np.isnan(khat(np.full((500, 1), -np.inf)))[0]


def test_widen_every_gaussian_and_nothing_else():
    packed = torch.randn(2, 3, 3, dtype=torch.float64)
    for q in (DiagonalGaussian(packed[:, 0], packed[:, 1]), FullGaussian(packed[:, 0], packed)):
        torch.testing.assert_close(widen(q, 2.5).covariance, 2.5 * q.covariance)
    q = PrecisionGaussian(packed[:, 0], unpack(packed))
    torch.testing.assert_close(widen(q, 2.5).covariance, 2.5 * q.covariance)
    with pytest.raises(ValueError, match="must be positive; got 0"):
        Widened(AmortizedGaussian(nn.Linear(1, 2)), 0.0)


def test_evaluating_leaves_everything_as_it_was():
    oracle = LinearGaussian()
    system, table = linear_system(oracle).train(), table_of(oracle)
    system.model.decoder.eval()
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in system.state_dict().items()}
    first = score(system, table, samples=30)
    assert torch.equal(torch.get_rng_state(), before)
    assert system.training
    assert not system.model.decoder.training
    assert all(torch.equal(value, weights[name]) for name, value in system.state_dict().items())
    torch.manual_seed(99)
    again = score(system, table, samples=30)
    assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)
    other = score(system, table, samples=30, seed=1)
    assert not np.array_equal(first["log_likelihood_laplace"], other["log_likelihood_laplace"])


def test_marginal_divergences_sum_to_the_whole_less_the_total_correlation():
    diagonal = DiagonalGaussian(torch.randn(4, 3).double(), torch.randn(4, 3).double())
    prior = StandardNormal(3)
    torch.testing.assert_close(marginal_kl_to_prior(diagonal, prior).sum(-1, keepdim=True), kl(diagonal, prior))
    full = FullGaussian(torch.randn(4, 3).double(), torch.randn(4, 3, 3).double())
    correlation = full.variance.log().sum(-1) / 2 - full.half_log_det
    torch.testing.assert_close(marginal_kl_to_prior(full, prior).sum(-1) + correlation, kl(full, prior)[:, 0])


def test_systems_without_latents():
    table = ArrayTable(torch.randn(20, 2))
    exact = -table.x.square().sum(-1).double().numpy()
    known = score(Toy("exact"), table, samples=50)
    np.testing.assert_allclose(known["log_likelihood"], exact, rtol=1e-6)
    assert "elbo" not in known
    assert summarize(known, evidence="exact").own is None
    weighed = score(Toy("bound"), table, samples=2000, memory=2**12)
    np.testing.assert_allclose(weighed["log_likelihood_own"], exact, atol=0.02)
    none = summarize(score(Toy("none"), table, samples=50), evidence="none", samples=50)
    assert none.log_likelihood is none.own is none.elbo is none.bits_per_dim is None
    assert none.warnings == ("This system gives no evidence: it has no log-likelihood, and none is estimated.",)


@pytest.mark.parametrize("objective", [Cubo(), WakePhi(), Renyi(-1.0)])
def test_what_is_no_lower_bound_is_said_and_never_reported(objective):
    """The evaluator's numbers are those of the weights, whatever training took; exact is a density alone."""
    oracle = LinearGaussian()
    table = table_of(oracle)
    system = linear_system(oracle)
    system.objective = objective
    found = score(system, table, samples=50)
    np.testing.assert_allclose(found["elbo"], oracle.log_evidence().numpy(), atol=1e-8)
    result = summarize(found, evidence="bound", objective=system.kind, samples=50)
    assert any("it is not reported" in text for text in result.warnings)
    system.evidence = "exact"
    with pytest.raises(ValueError, match=r"evidence 'exact': expected a system with an exact density \(HasDensity\)"):
        score(system, table, samples=50)


def test_weights_of_any_system_are_proper_in_chunks():
    batch = Batch(torch.zeros(3, 2), torch.arange(3))
    log_w, log_c = system_weights(Toy("bound"), batch, 500, memory=2**10)
    assert log_w.shape == (500, 3)
    torch.testing.assert_close(log_c.logsumexp(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_categorical_data_have_no_distance():
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, 12), Categorical(4, categories=3))
    system = LatentSystem(model, AmortizedFullGaussian(nn.Linear(4, 5), 2), elbo)
    scores = score(system, ArrayTable(torch.randint(0, 3, (30, 4)).float()), samples=30)
    result = summarize(scores)
    assert result.reconstruction_error is None
    assert result.log_likelihood.value < 0


def test_what_is_not_finite_is_counted_and_left_out():
    rng = np.random.default_rng(0)
    names = [f"{name}_own" for name in ("log_likelihood", "stderr", "ess", "khat")]
    scores = {name: rng.normal(size=100) for name in (*names, "elbo", "log_likelihood")} | {"log_det": np.zeros(100)}
    scores["log_likelihood_own"][[3, 7]] = np.nan, -np.inf
    scores["elbo"][11] = np.nan
    result = summarize(scores, samples=500)
    kept = np.delete(np.arange(100), [3, 7, 11])
    assert (result.count, result.excluded) == (100, 3)
    assert result.own.log_likelihood.value == pytest.approx(scores["log_likelihood_own"][kept].mean())
    assert result.elbo.stderr == pytest.approx(scores["elbo"][kept].std(ddof=1) / math.sqrt(97))
    assert "3 of 100 data" in result.warnings[0]


def test_nothing_finite_at_all_is_said_and_not_raised():
    broken = {name: np.full(5, np.nan) for name in ("log_likelihood", "elbo", "log_det", "kl")}
    result = summarize(broken | {"mean": np.zeros((5, 2)), "squared_error": np.zeros(5), "size": np.ones(5)})
    assert result.excluded == 5
    assert math.isnan(result.log_likelihood.value)


def test_a_kink_is_no_failure_of_the_search():
    scores = {"index": np.arange(4), "log_det": np.zeros(4), "status": np.array([0, 1, 2, 4])}
    result = summarize(scores, evidence="none")
    assert result.status == {"max_steps": 0.25, "nonfinite": 0.25}
    assert "mode for 25.0%; a value was not finite for 25.0%" in result.warnings[-1]


def test_estimate_of_means():
    values, errors = np.array([1.0, 2.0, 6.0]), np.array([0.3, 0.0, 0.4])
    found = Estimate.of(values, errors)
    assert found.value == 3
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(3))
    assert found.monte_carlo == pytest.approx(0.5 / 3)
    assert math.isnan(Estimate.of(values[:1]).stderr)


def test_collapsed_units_and_reconstruction():
    decoder = nn.Linear(2, 3).double()
    nn.init.zeros_(decoder.weight[:, 1:])
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(3, scale=0.1)).double()
    system = LatentSystem(model, Laplace(AmortizedGaussian(nn.Linear(3, 4).double()), steps=2), elbo)
    with torch.no_grad():
        x, _ = model.sample(200)
    scores = score(system, ArrayTable(x), samples=30)
    result = summarize(scores, samples=30)
    assert result.active_units == 1
    assert result.kl_per_dimension[1] == pytest.approx(0, abs=1e-8)
    mean = system.posterior(ArrayTable(x).x.double()).mean
    error = (decoder(mean) - x).square().mean().sqrt().detach()
    assert result.reconstruction_error == pytest.approx(float(error), rel=1e-4)
    assert any(warning.startswith("1 of 2 latent dimensions are collapsed") for warning in result.warnings)


def test_bits_are_those_of_the_raw_levels():
    table = ArrayTable(torch.randint(0, 4, (50, 6)), Dequantization(4))
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, 6), Gaussian(6))
    scores = score(LatentSystem(model, AmortizedGaussian(nn.Linear(6, 4)), elbo), table, samples=30)
    result = summarize(scores, levels=1.0)
    assert result.log_det == pytest.approx(-6 * math.log(4), rel=1e-5)
    assert result.bits_per_dim.value == pytest.approx(-result.log_likelihood.value / 6 / math.log(2) + 2, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"batch_size": 0}, {"memory": 0}, {"limit": 0}])
def test_misuse_is_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be 1 or more; got 0"):
        score(Toy("bound"), ArrayTable(torch.randn(3, 2)), **wrong)


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="holds no data"):
        score(Toy("bound"), ArrayTable(torch.zeros(0, 2)))
