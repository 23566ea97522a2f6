"""Gradients of an expectation over discrete z, against the enumerated one in float64; what training then reaches.

One row of logits is repeated, so that the gradient of each row is an independent estimate: means have standard errors.
"""

import itertools

import pytest
import torch
from torch import nn

from curvae.inference import AmortizedCategorical
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.noise import gumbel
from curvae.objectives import (
    DirectArgmax,
    DiscreteElbo,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    StraightThrough,
    discrete,
)
from curvae.objectives.discrete import relaxed
from curvae.posteriors import DiagonalGaussian, IndependentCategorical, PairwiseBinary
from curvae.priors import UniformCategorical, all_states
from curvae.systems import direct_vae
from curvae.systems.parts import discrete_gradient_for
from curvae.typing import DataSpec
from zoo import Categories, batch_of

CLOSE = {"atol": 1e-10, "rtol": 1e-10}
ROWS = 100_000


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Table:
    """Any reward at all of one-hot z: a number for each of its values; between them it is multilinear."""

    def __init__(self, variables: int, categories: int):
        self.shape = (categories,) * variables
        self.values = normal(*self.shape)

    def __call__(self, z):
        mixed = self.values.expand(*z.shape[:-1], *self.shape)
        for weights in z.unflatten(-1, (len(self.shape), -1)).unbind(-2):
            mixed = torch.einsum("sbk...,sbk->sb...", mixed, weights)
        return mixed


def rows_of(estimate, reward, logits, samples: int = 1, rows: int = ROWS):
    """Independent estimates of the gradient, (rows, N, K), and their mean and standard error."""
    leaf = logits.expand(rows, -1, -1).clone().requires_grad_(True)
    found = estimate(reward, IndependentCategorical(leaf), samples)
    torch.testing.assert_close(found.value, found.surrogate)
    found.surrogate.sum().backward()
    return leaf.grad.mean(0), leaf.grad.std(0) / rows**0.5


def exact(reward, logits):
    """The gradient of the sum over all values, written out: ``sum_z q(z) f(z) (1[z_i = k] - p_ik)``."""
    p = logits.softmax(-1)
    total = torch.zeros_like(logits)
    for where in itertools.product(range(logits.shape[1]), repeat=logits.shape[0]):
        z = nn.functional.one_hot(torch.tensor(where), logits.shape[1]).double()
        mass = (p * z).sum(-1).prod()
        total += mass * reward(z.flatten().reshape(1, 1, -1)).item() * (z - p)
    return total


# ----------------------------------------------------------------------------------------------------------- unbiased


@pytest.mark.parametrize("shape", [(1, 4), (2, 3)])
def test_enumeration_is_exact(shape):
    reward, logits = Table(*shape), normal(*shape)
    found, error = rows_of(Enumeration(), reward, logits, rows=3)
    torch.testing.assert_close(found, exact(reward, logits), **CLOSE)
    assert error.max() < 1e-12


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [(1, 4), (2, 3)])
@pytest.mark.parametrize("samples", [2, 5])
def test_leave_one_out_is_unbiased(shape, samples):
    """Failure rate below 1e-6: 6 standard errors for each of up to 6 numbers."""
    reward, logits = Table(*shape), normal(*shape)
    found, error = rows_of(LeaveOneOut(), reward, logits, samples)
    assert ((found - exact(reward, logits)).abs() < 6 * error).all()


def test_leave_one_out_and_enumeration_of_attracting_variables():
    """The same exact gradient, by autograd through the normalized law. 6 standard errors for each of 6 numbers."""
    reward, tensors = Table(3, 2), normal(2, 1, 3)
    grads = []
    for estimate, rows in ((Enumeration(), 1), (LeaveOneOut(), 40_000)):
        leaf = tensors.expand(-1, rows, -1).clone().requires_grad_(True)
        estimate(reward, PairwiseBinary(*leaf), 2).surrogate.sum().backward()
        grads.append(leaf.grad)
    found, error = grads[1].mean(1), grads[1].std(1) / 40_000**0.5
    assert ((found - grads[0][:, 0]).abs() < 6 * error).all()


# ------------------------------------------------------------------------------------------------- direct optimization


def direct_mean(reward, logits, e):
    """What the estimator has for mean: ``E_rest (softmax(h_i + e f) - softmax(h_i)) / e``, since argmax h + g is q."""
    p, total = logits.softmax(-1), torch.zeros_like(logits)
    count, categories = logits.shape
    for i in range(count):
        for rest in itertools.product(range(categories), repeat=count - 1):
            mass, values = 1.0, []
            for j, k in zip([j for j in range(count) if j != i], rest, strict=True):
                mass = mass * p[j, k]
            for k in range(categories):
                where = list(rest)
                where.insert(i, k)
                z = nn.functional.one_hot(torch.tensor(where), categories).double()
                values.append(reward(z.reshape(1, 1, -1)).item())
            tilted = (logits[i] + e * torch.tensor(values, dtype=torch.float64)).softmax(-1)
            total[i] += mass * (tilted - p[i]) / e
    return total


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [(1, 4), (2, 3)])
@pytest.mark.parametrize("e", [2.0, 0.5, 0.1])
def test_direct_has_the_mean_that_it_must_have(shape, e):
    """For any epsilon. Failure rate below 1e-6: 6 standard errors for each of up to 6 numbers."""
    reward, logits = Table(*shape), normal(*shape)
    found, error = rows_of(DirectArgmax(e, relative=False), reward, logits)
    assert ((found - direct_mean(reward, logits, e)).abs() < 6 * error).all()


@pytest.mark.parametrize("shape", [(1, 4), (2, 3)])
def test_and_that_mean_goes_to_the_gradient_linearly(shape):
    """The slope test: half the epsilon, half the bias."""
    reward, logits = Table(*shape), normal(*shape)
    bias = [(direct_mean(reward, logits, e) - exact(reward, logits)).norm() for e in (1e-2, 5e-3, 1e-5)]
    assert bias[0] / bias[1] == pytest.approx(2, abs=0.02)
    assert bias[2] < 1e-4


def test_no_gradient_at_all_where_the_maximizers_agree():
    """The same noise in both: of a constant reward, and of one too small to change any maximizer, every row is 0."""
    reward, logits = Table(1, 4), normal(1, 4)
    for dull in (lambda z: 7 + 0 * z[..., 0], lambda z: 1e-12 * reward(z)):
        found, error = rows_of(DirectArgmax(1.0, relative=False), dull, logits, rows=1000)
        assert (found == 0).all()
        assert (error == 0).all()


def test_relative_epsilon_means_the_same_for_nats_and_for_hundreds_of_them():
    reward, logits = Table(2, 3), normal(2, 3)
    grads = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(1)
        grads.append(rows_of(DirectArgmax(0.5), lambda z, scale=scale: scale * reward(z), logits, rows=1000)[0])
    torch.testing.assert_close(1000 * grads[0], grads[1])


def potential(fields, weights, on):
    """h, by the definition."""
    level = (on * fields).sum(-1)
    for e, (i, j) in enumerate(itertools.combinations(range(len(fields)), 2)):
        level = level + weights[e] * on[..., i] * on[..., j]
    return level


def attracting(reward_of_each, e: float, noise):
    """Both maximizers by brute force, and the resulting gradient of each draw in the fields."""
    fields, weights = torch.tensor([-0.8, -1.2, 0.1]).double(), torch.tensor([1.0, 0.5, 0.7]).double()
    on = all_states(3, 2, fields)[:, 1::2]
    total = potential(fields, weights, on) + noise @ on.mT
    z, direct = on[total.argmax(-1)], on[(total + e * on @ reward_of_each).argmax(-1)]
    return fields, weights, z, (direct - z) / e


def test_direct_of_attracting_variables_is_the_difference_of_two_cuts(monkeypatch):
    each = normal(3)
    noise = gumbel(500, torch.zeros(1, 6, dtype=torch.float64))
    monkeypatch.setattr(discrete, "gumbel", lambda *_: noise)
    gain = (noise[:, 0, 1::2] - noise[:, 0, 0::2]).contiguous()
    fields, weights, _, expected = attracting(each, 0.5, gain)
    leaf = fields[None].clone().requires_grad_(True)
    q = PairwiseBinary(leaf, weights.expm1().log()[None])
    DirectArgmax(0.5, relative=False)(lambda z: z[..., 1::2] @ each, q, 500).surrogate.sum().backward()
    torch.testing.assert_close(leaf.grad[0], expected.mean(0))


@pytest.mark.statistical
def test_which_in_the_limit_is_the_gradient_of_the_perturbed_maximum():
    """Of E[f(argmax h + g)], for a reward that is a sum. Failure rate below 1e-5: 6 standard errors and the bias."""
    each, count = normal(3), 400_000
    u = torch.rand(count, 3, dtype=torch.float64)
    noise = u.log() - (-u).log1p()
    fields, weights, _, rows = attracting(each, 0.05, noise)
    on = all_states(3, 2, fields)[:, 1::2]

    def value(at):
        return (on @ each)[(potential(at, weights, on) + noise @ on.mT).argmax(-1)]

    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 0.05
        slope = (value(fields + step) - value(fields - step)) / 0.1
        error = (slope.std() ** 2 + rows[:, i].std() ** 2).sqrt() / count**0.5
        assert (slope.mean() - rows[:, i].mean()).abs() < 6 * error + 0.02


def test_direct_of_variables_that_do_not_attract_is_that_of_independent_ones(monkeypatch):
    reward, fields = Table(3, 2), normal(50, 3)
    noise = gumbel(20, torch.zeros(50, 6, dtype=torch.float64))
    monkeypatch.setattr(discrete, "gumbel", lambda *_: noise)
    grads = []
    for make in (
        lambda h: PairwiseBinary(h, torch.full_like(h, -60.0)),
        lambda h: IndependentCategorical(torch.stack([torch.zeros_like(h), h], dim=-1)),
    ):
        leaf = fields.clone().requires_grad_(True)
        DirectArgmax(0.5)(reward, make(leaf), 20).surrogate.sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)


# ------------------------------------------------------------------------------------------------------- relaxations


def test_relaxed_draws_become_the_one_hot_ones():
    hard, soft = relaxed(IndependentCategorical(normal(50, 2, 3)), 20, 1e-4)
    assert ((hard - soft).abs().amax(-1) < 1e-3).double().mean() > 0.99
    assert torch.equal(hard.unflatten(-1, (2, 3)).argmax(-1), soft.unflatten(-1, (2, 3)).argmax(-1))


@pytest.mark.statistical
@pytest.mark.parametrize("estimate", [GumbelSoftmax(1.0), StraightThrough(1.0)])
def test_relaxations_report_one_hot_draws_and_are_biased(estimate):
    """As documented; the gradients themselves are finite. Failure rate below 1e-6: 6 standard errors."""
    torch.manual_seed(3)
    reward, logits = Table(2, 3), normal(2, 3)
    found, error = rows_of(estimate, reward, logits)
    assert found.isfinite().all()
    assert ((found - exact(reward, logits)).abs() > 6 * error).any()
    values = estimate(reward, IndependentCategorical(logits.expand(1000, -1, -1)), 1).value
    assert torch.isin(values.round(decimals=9), reward.values.flatten().round(decimals=9)).all()


# ----------------------------------------------------------------------------------------------------------- the bound


def test_the_exact_bound_and_its_gradient_include_the_divergence():
    """Against central differences of the bound as a plain sum; the published code trained without the divergence."""
    oracle, logits = Categories(), normal(8, 2, 3)

    def bound(at):
        q = IndependentCategorical(at)
        z = oracle.states.unsqueeze(1).expand(-1, 8, -1)
        log_q = q.log_prob(z)
        return (log_q.exp() * (oracle.model.log_joint(oracle.x, z) - log_q)).sum()

    leaf = logits.clone().requires_grad_(True)
    found = DiscreteElbo(Enumeration())(oracle.model, IndependentCategorical(leaf), oracle.batch)
    found.surrogate.sum().backward()
    torch.testing.assert_close(found.value.sum(), bound(logits))
    step = normal(8, 2, 3)
    slope = (bound(logits + 1e-5 * step) - bound(logits - 1e-5 * step)) / 2e-5
    torch.testing.assert_close((leaf.grad * step).sum(), slope, rtol=1e-6, atol=1e-7)


def test_with_nothing_to_decode_every_gradient_is_that_of_the_divergence():
    prior = UniformCategorical(2, 3)
    decoder = nn.Linear(6, 4)
    nn.init.zeros_(decoder.weight)
    model = LatentVariableModel(prior, decoder, Gaussian(4)).double()
    logits, batch = normal(8, 2, 3), batch_of(normal(8, 4))
    p = logits.softmax(-1)
    expected = -p * (p.log() - (p * p.log()).sum(-1, keepdim=True))
    for gradient in (DirectArgmax(), GumbelSoftmax(), StraightThrough(), LeaveOneOut(), Enumeration()):
        leaf = logits.clone().requires_grad_(True)
        DiscreteElbo(gradient)(model, IndependentCategorical(leaf), batch, 2).surrogate.sum().backward()
        torch.testing.assert_close(leaf.grad, expected, atol=1e-8, rtol=1e-8)


@pytest.mark.statistical
@pytest.mark.parametrize("gradient", [DirectArgmax(), StraightThrough(), LeaveOneOut()])
def test_the_decoder_learns_from_one_hot_draws(gradient):
    """Unbiased for it, whatever the gradient in q. Failure rate below 1e-6: 6 standard errors for each of 4 numbers."""
    oracle, rows = Categories(2, 3, outputs=4, count=1), 20_000
    logits = normal(1, 2, 3).expand(rows, -1, -1)
    batch = batch_of(oracle.x.expand(rows, -1))

    def slopes(objective, at, count):
        shift = torch.zeros(count, 4, dtype=torch.float64, requires_grad=True)
        model = LatentVariableModel(oracle.model.prior, nn.Identity(), oracle.model.likelihood)
        model.decode = lambda z, x=None: oracle.model.decode(z) + shift
        total = objective(model, IndependentCategorical(at), batch_of(batch.x[:count]), 2).surrogate.sum()
        return torch.autograd.grad(total, shift)[0]

    found = slopes(DiscreteElbo(gradient), logits, rows)
    expected = slopes(DiscreteElbo(Enumeration()), logits[:1], 1)[0]
    assert ((found.mean(0) - expected).abs() < 6 * found.std(0) / rows**0.5).all()


def trained(word: str):
    """A mixture of 4 clusters, learned with one 4-way variable: its exact log-likelihood."""
    torch.manual_seed(0)
    centers = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(5))
    which = torch.randint(4, (512,), generator=torch.Generator().manual_seed(6))
    x = centers[which] + 0.5 * torch.randn(512, 5, generator=torch.Generator().manual_seed(7))
    likelihood = Gaussian(5, scale=0.5)
    system = direct_vae(DataSpec((5,)), 1, 4, hidden=16, depth=1, gradient=word, likelihood=likelihood)
    optimizer = torch.optim.Adam(system.parameters(), lr=0.02)
    for step in range(300):
        part = x[(step * 64) % 512 :][:64]
        loss = -system.bound(batch_of(part)).surrogate.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    states = all_states(1, 4, x).unsqueeze(1).expand(-1, 512, -1)
    with torch.no_grad():
        return torch.logsumexp(system.model.log_joint(x, states), 0).mean().item()


def test_training_by_two_maximizers_is_as_good_as_by_the_exact_sum():
    """The notes' check, on clusters for MNIST: within 2 nats, where a single cluster would lose 10 and more."""
    assert abs(trained("direct") - trained("exact")) < 2


def test_misuse():
    logits, reward = normal(1, 2, 3), Table(2, 3)
    with pytest.raises(ValueError, match="epsilon must be positive; got 0"):
        DirectArgmax(0)
    for kind in (GumbelSoftmax, StraightThrough):
        with pytest.raises(ValueError, match=f"{kind.__name__}: temperature must be positive; got -1"):
            kind(-1)
        with pytest.raises(ValueError, match="expect an IndependentCategorical posterior; got PairwiseBinary"):
            kind()(reward, PairwiseBinary(normal(1, 2), normal(1, 1)))
    with pytest.raises(ValueError, match="needs 2 draws or more; got 1"):
        LeaveOneOut()(reward, IndependentCategorical(logits), 1)
    with pytest.raises(ValueError, match="more than 65536"):
        Enumeration()(reward, IndependentCategorical(normal(1, 20, 3)))
    oracle = Categories()
    with pytest.raises(ValueError, match=r"expects a discrete posterior .*; got DiagonalGaussian"):
        DiscreteElbo(Enumeration())(oracle.model, DiagonalGaussian(normal(8, 6), normal(8, 6)), oracle.batch)
    for wrong in ({"categories": 3}, {"gradient": "gumbel-softmax"}):
        with pytest.raises(ValueError, match="pairwise: expects categories=2 and no relaxed gradient"):
            direct_vae(DataSpec((5,)), 3, **{"categories": 2, **wrong}, pairwise=True)
    with pytest.raises(ValueError, match=r"gradient: expected one of direct, .*; got 'magic'"):
        discrete_gradient_for("magic", 1.0, 1.0)
    assert isinstance(direct_vae(DataSpec((5,))).inference, AmortizedCategorical)
