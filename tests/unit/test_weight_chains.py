"""Chains of weights against their exact stationary law, their prior against Gibbs' step, and Bayes by backprop."""

import math

import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import gamma, kstest
from torch import nn
from torch.distributions import Normal, kl_divergence

import lifecycle
from curvae.networks import MLP
from curvae.systems import bayesian_vae
from curvae.systems.weight_stages import OverWeights, chain_bound
from curvae.weights import MeanFieldWeights, Sghmc, Sgld, WeightChain, weight_vector

F64 = torch.float64
PRECISION = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=F64)
CHAINS, COLLECTED = 2000, 8
LR, FRICTION = 0.04, 0.25
DATA = lifecycle.data_of((6,))


def run(make, apart: int, warmup: int = 0, seed: int = 0) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    """Draws of many chains under ``U = theta' P theta / 2`` at once, far apart in time."""
    torch.manual_seed(seed)
    start = torch.randn(CHAINS, 2, dtype=F64) @ torch.linalg.cholesky(torch.linalg.inv(PRECISION)).mT
    theta = nn.Parameter(start.clone())
    chain, kept = make([theta], warmup), []
    for step in range(warmup + apart * (COLLECTED + 1)):
        theta.grad = theta.detach() @ PRECISION
        chain.step()
        if step >= warmup + apart and (step - warmup) % apart == apart - 1:
            kept.append(theta.detach().clone())
    return torch.cat(kept), chain


def langevin(parameters, warmup=0):
    return Sgld(parameters, lr=LR, warmup=warmup)


def hamiltonian(parameters, warmup=0):
    return Sghmc(parameters, lr=LR, friction=FRICTION, warmup=warmup)


def stationary(which, metric: torch.Tensor | None = None) -> torch.Tensor:
    """The covariance of theta where the chain, which is linear, no longer changes it."""
    m, one = torch.eye(2, dtype=F64) if metric is None else metric.diag(), torch.eye(2, dtype=F64)
    if which is langevin:
        step, noise = one - 0.5 * LR * m @ PRECISION, LR * m
    else:
        push, left = LR * m @ PRECISION, (1 - FRICTION) * one
        step = torch.cat([torch.cat([one - push, left], 1), torch.cat([-push, left], 1)])
        noise = (2 * FRICTION * LR * m).repeat(2, 2)
    return torch.from_numpy(solve_discrete_lyapunov(step.numpy(), noise.numpy()))[:2, :2]


def off(draws: torch.Tensor, law: torch.Tensor) -> float:
    """How far the covariance of draws is from that of the law, in units of its own."""
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(law), draws.mT, upper=False)
    return float((whitened.cov() - torch.eye(2, dtype=F64)).abs().max())


@pytest.mark.parametrize(("make", "apart"), [(langevin, 150), (hamiltonian, 40)])
def test_covariance_of_a_gaussian(make, apart):
    """The law of the chain is within 5 % of the target; its draws are the chain's, within 6 standard errors.

    16,000 draws, nearly independent: 3 entries beyond 6 standard errors of sqrt(2 / 16,000): below 1e-8.
    """
    law, target = stationary(make), torch.linalg.inv(PRECISION)
    scale = target.diagonal().rsqrt()
    assert (scale.diag() @ (law - target) @ scale.diag()).abs().max() < 0.05
    draws, _ = run(make, apart)
    assert off(draws, law) < 6 * math.sqrt(2 / (CHAINS * COLLECTED))


@pytest.mark.parametrize(("make", "apart"), [(langevin, 150), (hamiltonian, 40)])
def test_the_metric_is_measured_first_and_then_kept(make, apart):
    """The parameter stays where it is meanwhile, and the law is that of the metric that was found."""
    draws, chain = run(make, apart, warmup=1)
    (state,) = chain.state.values()
    assert state["step"] == 1 + apart * (COLLECTED + 1)
    torch.manual_seed(0)
    theta = nn.Parameter(torch.ones(3))
    theta.grad = torch.tensor([2.0, 4.0, 0.0])
    chain = make([theta], 2)
    for _ in range(2):
        chain.step()
        assert theta.tolist() == [1, 1, 1]
    chain.step()
    assert theta.isfinite().all()
    assert (theta != 1).all()
    assert draws.isfinite().all()


def test_prior_precision_is_drawn_from_its_conditional():
    """1,000 draws of two precisions by a test of Kolmogorov and Smirnov at 1e-6."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    chain = WeightChain(network, every=1)
    weights = torch.cat([torch.full((6,), 0.5), torch.full((2,), 3.0)])
    chain.begin(weights, 100)
    drawn = torch.stack([chain.visited(weights)["precision"] for _ in range(1000)])
    for group, (count, square) in enumerate([(6, 1.5), (2, 18.0)]):
        law = gamma(1 + count / 2, scale=1 / (1 + square / 2))
        assert kstest(drawn[:, group].numpy(), law.cdf).pvalue > 1e-6


def test_log_prior():
    chain = WeightChain(nn.Linear(3, 2), prior_precision=4.0)
    weights = torch.randn(8)
    torch.testing.assert_close(chain.log_prior(weights), Normal(0.0, 0.5).log_prob(weights).sum())


def test_a_chain_keeps_its_last_weights():
    chain = WeightChain(nn.Linear(1, 1), size=3, every=2)
    assert torch.equal(next(chain.draw(torch.ones(2), 1)), torch.ones(2))
    chain.begin(torch.zeros(2), 10)
    for step in range(1, 11):
        for name, value in chain.visited(torch.full((2,), float(step))).items():
            getattr(chain, name).copy_(value)
    assert sorted(draw[0].item() for draw in chain.draw(torch.zeros(2), 3)) == [6, 8, 10]
    assert chain.middle().tolist() == [8, 8]


@pytest.mark.parametrize("word", ["sgld", "sghmc"])
def test_a_chain_is_given_the_energy_of_all_rows(word):
    """Not that of the mean row: weights would be of another temperature, and no check of shapes would say so."""
    torch.manual_seed(0)
    system = bayesian_vae(DATA.spec, 2, 8, 1, weights=word, prior_precision=2.0)
    chain = system.stages()[-1]
    chain.prepare[0](system, DATA)
    batch = lifecycle.first(DATA.train)
    torch.manual_seed(1)
    plain = system.bound(batch)
    torch.manual_seed(1)
    bound = chain_bound(system, batch)
    prior = Normal(0.0, 0.5**0.5).log_prob(weight_vector(system.model.decoder)).sum()
    torch.testing.assert_close(bound.surrogate, len(DATA.train) * plain.surrogate + prior)
    torch.testing.assert_close(bound.value, plain.value)
    assert chain.trained == ("model.decoder",)
    assert chain.schedule(0.0) == chain.schedule(1.0) == 1
    assert chain.clip > 1e20
    assert chain.keep == "last"


@pytest.mark.parametrize("precision", [None, 3.0])
def test_cost_of_mean_field_weights_is_the_divergence(precision):
    torch.manual_seed(2)
    network = MLP(2, [4], 3).double()
    q = MeanFieldWeights(network, prior_precision=precision).double()
    q.rho.data.normal_()
    mean = weight_vector(network).detach()
    expected = 0.0
    for group in q.groups:
        second = (mean[group].square() + q.deviation[group].square()).mean().detach()
        own = Normal(torch.zeros((), dtype=F64), second.sqrt() if precision is None else precision**-0.5)
        expected = expected + kl_divergence(Normal(mean[group], q.deviation[group]), own).sum()
    torch.testing.assert_close(q.cost(mean), expected)
    if precision is None:
        worse = MeanFieldWeights(network, prior_precision=float(1 / second) * 1.2).double()
        worse.rho.data = q.rho.data
        assert worse.cost(mean) > q.cost(mean)


def test_mean_field_draws():
    """4,000 draws: variances within 6 standard errors."""
    torch.manual_seed(3)
    q = MeanFieldWeights(nn.Linear(2, 2), deviation=0.3)
    torch.testing.assert_close(q.deviation.detach(), torch.full((6,), 0.3))
    draws = torch.stack([*q.draw(torch.ones(6), 4000, torch.Generator().manual_seed(0))])
    assert (draws.var(0) / 0.09 - 1).abs().max() < 6 * math.sqrt(2 / 4000)
    assert (draws.mean(0) - 1).abs().max() < 6 * 0.3 / math.sqrt(4000)


def test_bayes_by_backprop_takes_its_divergence_off_each_row_once():
    torch.manual_seed(4)
    system = bayesian_vae(DATA.spec, 2, 8, 1, weights="bayes-by-backprop", prior_precision=2.0)
    first = system.stages()[0]
    first.prepare[0](system, DATA)
    assert int(system.weights.rows) == len(DATA.train)
    batch = lifecycle.first(DATA.train)
    bound = OverWeights()(system, batch)
    cost = system.weights.cost(weight_vector(system.model.decoder)) / len(DATA.train)
    torch.testing.assert_close(bound.value + cost, bound.surrogate + cost)
    system.weights.rho.data.fill_(-60.0)  # no spread is left
    torch.manual_seed(5)
    torch.randn(len(system.weights.rho))
    plain = system.bound(batch)
    torch.manual_seed(5)
    narrow = OverWeights()(system, batch)
    cost = system.weights.cost(weight_vector(system.model.decoder)) / len(DATA.train)
    torch.testing.assert_close(narrow.value + cost, plain.value, rtol=1e-4, atol=1e-3)


def test_misuse_of_chains():
    parameters = [nn.Parameter(torch.zeros(2))]
    with pytest.raises(ValueError, match=r"Sgld: expected lr above 0 and warmup of 0 or more; got 0.0 and 3"):
        Sgld(parameters, 0.0, 3)
    with pytest.raises(ValueError, match=r"Sghmc: expected friction in \(0, 1\); got 1.5"):
        Sghmc(parameters, friction=1.5)
    with pytest.raises(ValueError, match="WeightChain: every must be 1 or more; got 0"):
        WeightChain(nn.Linear(1, 1), every=0)
    with pytest.raises(ValueError, match="MeanFieldWeights: expected a deviation above 0; got 0"):
        MeanFieldWeights(nn.Linear(1, 1), deviation=0.0)


if __name__ == "__main__":  # how far each is over 20 seeds, in standard errors
    for each, gap in ((langevin, 150), (hamiltonian, 40)):
        far = [
            off(run(each, gap, seed=s)[0], stationary(each)) / math.sqrt(2 / (CHAINS * COLLECTED)) for s in range(20)
        ]
        print(each.__name__, f"{max(far):.2f}", f"{sum(far) / 20:.2f}")
