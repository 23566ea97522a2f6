"""Discrete latents: laws against brute force, the maximum by a cut, enumeration, and what refuses them."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from chance import means, p_value
from curvae.data import from_array
from curvae.distributions import all_states
from curvae.evaluation.likelihood.annealing import annealed_importance_sampling
from curvae.evaluation.likelihood.proposal import common_proposal
from curvae.evaluation.likelihood.scores import score
from curvae.inference import (
    AmortizedCategorical,
    AmortizedGaussian,
    AmortizedPairwise,
    AnnealedHMC,
    ConstantGaussian,
    FisherGaussian,
    HamiltonianFlow,
    Laplace,
    MatrixFreeLaplace,
    MultimodalLaplace,
    hmc_chains,
)
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.noise import common_noise, gumbel
from curvae.objectives import elbo, iwae, monte_carlo_elbo
from curvae.posteriors import (
    EnumeratedPosterior,
    IndependentCategorical,
    PairwiseBinary,
    maximize_pairwise,
    representative_point,
)
from curvae.priors import StandardNormal, UniformCategorical
from curvae.systems import LatentSystem
from zoo import Categories, batch_of

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# -------------------------------------------------------------------------------------------- the maximum by a cut


def value(single, pair, on):
    return (single * on).sum() + 0.5 * on @ pair @ on


def attracting(rng, count: int):
    upper = np.triu(rng.exponential(1.0, (count, count)), 1)
    return upper + upper.T


@pytest.mark.parametrize("count", [1, 2, 5, 12])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_cut_is_the_maximum_by_brute_force(count, scale):
    rng = np.random.default_rng(count)
    pair = np.stack([scale * attracting(rng, count) for _ in range(8)])
    single = scale * (rng.normal(0, 2, (8, count)) - 0.5 * pair.sum(2) / scale)
    found = maximize_pairwise(single, pair)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=count)))
    for one in range(8):
        best = max(value(single[one], pair[one], on) for on in every)
        here = value(single[one], pair[one], found[one].astype(float))
        assert here == pytest.approx(best, rel=1e-6, abs=1e-6 * scale)
    assert count < 5 or 0 < found.mean() < 1, "a test where all are on or off would not be one"


def test_variables_without_pairs_go_by_their_sign():
    single = np.array([[1.0, -2.0, 1e-3, 0.0]])
    assert maximize_pairwise(single, np.zeros((1, 4, 4))).tolist() == [[True, False, True, False]]


def test_pairs_that_repel_are_refused():
    with pytest.raises(ValueError, match=r"expects pairs >= 0; got -1. A cut needs such pairs"):
        maximize_pairwise(np.zeros((1, 2)), np.array([[[0.0, -1.0], [-1.0, 0.0]]]))


# ---------------------------------------------------------------------------------------------------------- the laws


def test_independent_against_torch():
    q = IndependentCategorical(normal(4, 2, 3))
    draws = q.draw(7)
    oracle = torch.distributions.Categorical(logits=q.logits)
    where = draws.z.unflatten(-1, (2, 3)).argmax(-1)
    torch.testing.assert_close(draws.log_q, oracle.log_prob(where).sum(-1), **CLOSE)
    torch.testing.assert_close(q.entropy, oracle.entropy().sum(-1), **CLOSE)


def brute_pairwise(q: PairwiseBinary):
    """h of every value by the definition, a double loop over pairs."""
    weights, levels = torch.nn.functional.softplus(q.couplings), []
    for on in itertools.product([0, 1], repeat=q.variables):
        level = sum(q.fields[:, i] * on[i] for i in range(q.variables))
        for e, (i, j) in enumerate(itertools.combinations(range(q.variables), 2)):
            level = level + weights[:, e] * on[i] * on[j]
        levels.append(level)
    return torch.stack(levels)


def test_the_interval_of_an_indicator_is_that_of_its_quantiles():
    """At level 0.8 a tenth lies beyond each end: 0 below a probability of 0.1, 1 above 0.9, both between."""
    share = torch.tensor([[0.01, 0.08, 0.12, 0.79], [0.92, 0.06, 0.015, 0.005]], dtype=torch.float64)
    low, high = IndependentCategorical(share.log().unsqueeze(1)).interval(0.8)
    assert low.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert high.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]


def test_pairwise_against_brute_force():
    q = PairwiseBinary(normal(5, 4) - 1, normal(5, 6))
    levels = brute_pairwise(q)
    z = q.states.unsqueeze(1).expand(-1, 5, -1)
    torch.testing.assert_close(q.potential(z), levels, **CLOSE)
    torch.testing.assert_close(q.log_prob(z), levels.log_softmax(0), **CLOSE)
    mass = levels.softmax(0)
    torch.testing.assert_close(q.mean, torch.einsum("mb,md->bd", mass, q.states), **CLOSE)
    torch.testing.assert_close(q.entropy, -(mass * mass.log()).sum(0), **CLOSE)
    bonus = normal(3, 5, 8)
    total = levels + torch.einsum("nbd,md->nmb", bonus, q.states)
    assert torch.equal(q.maximize(bonus), q.states[total.argmax(1)])


def test_pairwise_without_attraction_is_independent():
    fields = normal(4, 3)
    q = PairwiseBinary(fields, torch.full((4, 3), -50.0, dtype=torch.float64))
    p = IndependentCategorical(torch.stack([torch.zeros_like(fields), fields], dim=-1))
    z = q.states.unsqueeze(1).expand(-1, 4, -1)
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z), **CLOSE)
    torch.testing.assert_close(q.covariance, p.covariance, **CLOSE)


LAWS = [
    IndependentCategorical(torch.tensor([[[0.0, 1.0, -2.0]]])),
    PairwiseBinary(torch.zeros(1, 2), torch.ones(1, 1)),
]


@pytest.mark.statistical
@pytest.mark.parametrize("q", LAWS)
def test_frequencies_of_the_draws(q):
    """Of 20,000, against the probabilities by Pearson's chi-square: 1e-6 of the seeds fail."""
    found = q.draw(20_000).z[:, 0]
    expected = q.log_prob(q.states.unsqueeze(1)).double().exp()[:, 0]
    count = (found[:, None] == q.states).all(-1).sum(0)
    p_value("frequencies", stats.chisquare(count, 20_000 * expected / expected.sum()).pvalue)


def test_noise_common_to_the_data_gives_equal_data_equal_draws():
    for q in (IndependentCategorical(torch.zeros(2, 3, 4)), PairwiseBinary(torch.zeros(2, 3), torch.zeros(2, 3))):
        one, two = q.draw(20, common_noise(0)).z.unbind(1)
        assert torch.equal(one, two)
        assert len(one.unique(dim=0)) > 1


def test_gumbel_noise_is_finite_at_both_ends(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.tensor([0.0, 1 - 2**-24]).reshape(2, 1))
    assert gumbel(2, torch.zeros(1, 1)).isfinite().all()


# ------------------------------------------------------------------------------------------------------- enumeration


def posterior_of(oracle: Categories) -> IndependentCategorical:
    prior = oracle.model.prior
    return IndependentCategorical(0.7 * normal(len(oracle.x), prior.variables, prior.categories))


def test_bounds_by_enumeration_are_exact():
    oracle = Categories()
    q = posterior_of(oracle)
    log_q = q.log_prob(oracle.states.unsqueeze(1).expand(-1, 8, -1))
    joint = oracle.model.log_joint(oracle.x, oracle.states.unsqueeze(1).expand(-1, 8, -1))
    expected = (log_q.exp() * (joint - log_q)).sum(0)
    for bound in (elbo, monte_carlo_elbo):
        torch.testing.assert_close(
            bound(oracle.model, EnumeratedPosterior(q), oracle.batch, 1).value, expected, **CLOSE
        )
    exact = iwae(oracle.model, EnumeratedPosterior(q), oracle.batch, 1).value
    torch.testing.assert_close(exact, oracle.log_evidence(), **CLOSE)


@pytest.mark.statistical
def test_draws_reach_the_enumerated_bound():
    """2,000 copies of each of 8 examples: 8 normal deviates, 5e-6 of the seeds fail."""
    oracle = Categories()
    q = posterior_of(oracle)
    copies = q.with_tensors({"logits": q.logits.repeat(2000, 1, 1)})
    values = elbo(oracle.model, copies, batch_of(oracle.x.repeat(2000, 1)), 2).value.unflatten(0, (2000, 8))
    means("bound", values.detach(), elbo(oracle.model, EnumeratedPosterior(q), oracle.batch, 1).value.detach())


def test_too_many_values_to_list():
    with pytest.raises(ValueError, match=r"3\^20 of them are more than 65536"):
        EnumeratedPosterior(IndependentCategorical(torch.zeros(1, 20, 3)))
    with pytest.raises(ValueError, match=r"2\^17 of them"):
        PairwiseBinary(torch.zeros(1, 17), torch.zeros(1, 136))
    assert len(all_states(16, 2, torch.zeros(()))) == 2**16


def test_values_listed_under_inference_mode_serve_training():
    with torch.inference_mode():
        all_states(3, 5, torch.zeros((), dtype=torch.float64))
    logits = normal(2, 3, 5).requires_grad_(True)
    EnumeratedPosterior(IndependentCategorical(logits)).draw(1).log_q.sum().backward()
    assert logits.grad is not None


# -------------------------------------------------------------------------------------------- evaluation, and refusals


def system() -> LatentSystem:
    model = LatentVariableModel(UniformCategorical(2, 3), nn.Linear(6, 5), Gaussian(5))
    return LatentSystem(model, AmortizedCategorical(nn.Linear(5, 6)), elbo, samples=2)


def test_evaluated_by_draws_of_its_own_posterior():
    trained = system()
    data = from_array(torch.randn(60, 5))
    found = score(trained, data.test, samples=20_000)
    assert not any(name.endswith("_laplace") for name in found)
    x = data.test.batch(torch.arange(len(data.test))).x.float()
    z = all_states(2, 3, x).unsqueeze(1).expand(-1, len(x), -1)
    exact = torch.logsumexp(trained.model.log_joint(x, z), 0).detach().numpy()
    assert (np.abs(found["log_likelihood"] - exact) < 6 * found["stderr_own"] + 1e-4).all()
    z = representative_point(trained.posterior(x))
    assert trained.model.prior.log_prob(z).isfinite().all(), "what is decoded for a picture is a value of z"


def test_what_goes_by_curvature_refuses():
    model, encoder = system().model, nn.Linear(5, 6)
    batch = Categories(2, 3, 5).batch
    batch = batch._replace(x=batch.x.float())
    start = ConstantGaussian(6)
    by_curvature = (Laplace(start), MatrixFreeLaplace(start), MultimodalLaplace(start), FisherGaussian(encoder))
    for inference in (*by_curvature, FisherGaussian(encoder, dense=0)):
        with pytest.raises(ValueError, match=r"expects continuous latents; got discrete ones \(UniformCategorical\)"):
            inference(model, batch)
    for inference in (HamiltonianFlow(start, 6), AnnealedHMC(start, 6)):
        with pytest.raises(ValueError, match=f"{type(inference).__name__}: expects continuous latents"):
            inference(model, batch)
    with pytest.raises(ValueError, match="hmc_chains: expects continuous latents"):
        hmc_chains(model, batch, system().inference(model, batch).posterior)
    with pytest.raises(ValueError, match="common proposal: expects continuous latents"):
        common_proposal(system())
    with pytest.raises(ValueError, match="ais: expects continuous latents"):
        annealed_importance_sampling(system(), from_array(torch.randn(60, 5)).test, 10)


def test_a_continuous_posterior_has_no_evidence_there():
    model = system().model
    batch = Categories(2, 3, 5).batch
    batch = batch._replace(x=batch.x.float())
    q = AmortizedGaussian(nn.Linear(5, 12))(model, batch).posterior
    assert (iwae(model, q, batch, 3).value == -torch.inf).all()


def test_misuse():
    batch = Categories(2, 3, 5).batch
    batch = batch._replace(x=batch.x.float())
    model = system().model
    with pytest.raises(ValueError, match=r"must give N K = 6 values; got \(7,\)"):
        AmortizedCategorical(nn.Linear(5, 7))(model, batch)
    with pytest.raises(ValueError, match="expects variables of 2 categories; got 3"):
        AmortizedPairwise(nn.Linear(5, 3))(model, batch)
    binary = LatentVariableModel(UniformCategorical(3, 2), nn.Linear(6, 5), Gaussian(5))
    with pytest.raises(ValueError, match=r"must give N \(N \+ 1\) / 2 = 6 values; got \(7,\)"):
        AmortizedPairwise(nn.Linear(5, 7))(binary, batch)
    gaussian = LatentVariableModel(StandardNormal(6), nn.Linear(6, 5), Gaussian(5))
    with pytest.raises(ValueError, match="expects a UniformCategorical prior; got StandardNormal"):
        AmortizedCategorical(nn.Linear(5, 6))(gaussian, batch)
    with pytest.raises(ValueError, match="1 or more variables of 2 or more categories; got 2 of 1"):
        UniformCategorical(2, 1)
    with pytest.raises(ValueError, match="3 variables have 3 couplings; got 2"):
        PairwiseBinary(torch.zeros(1, 3), torch.zeros(1, 2))
