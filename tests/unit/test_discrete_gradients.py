"""Gradients of an expectation over discrete z, against the enumerated one in float64; what training then reaches.

One row of logits is repeated, so that the gradient of each row is an independent estimate: means have standard errors.
"""

import pytest
import torch
from torch import nn

from chance import beyond, deviates, means
from curvae.distributions import all_states
from curvae.inference import AmortizedCategorical
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import (
    DirectArgmax,
    DiscreteElbo,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    StraightThrough,
)
from curvae.objectives.discrete import hard_and_relaxed_draws
from curvae.posteriors import DiagonalGaussian, IndependentCategorical, PairwiseBinary
from curvae.priors import UniformCategorical
from curvae.systems import direct_vae
from curvae.systems.parts import discrete_gradient_for
from curvae.typing import DataSpec
from rewards import Table, exact, moderate, normal, rows_of
from zoo import Categories, batch_of

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


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
    """Up to 6 numbers, means of 20,000 bounded ones: normal deviates, 4e-6 of the seeds fail."""
    reward, logits = Table(*shape), moderate(*shape)
    found, error = rows_of(LeaveOneOut(), reward, logits, samples, rows=20_000)
    deviates("gradient", (found - exact(reward, logits)) / error)


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


# ------------------------------------------------------------------------------------------------------- relaxations


def test_relaxed_draws_become_the_one_hot_ones():
    hard, soft = hard_and_relaxed_draws(IndependentCategorical(normal(50, 2, 3)), 20, 1e-4)
    assert ((hard - soft).abs().amax(-1) < 1e-3).double().mean() > 0.99
    assert torch.equal(hard.unflatten(-1, (2, 3)).argmax(-1), soft.unflatten(-1, (2, 3)).argmax(-1))


@pytest.mark.statistical
@pytest.mark.parametrize("estimate", [GumbelSoftmax(1.0), StraightThrough(1.0)])
def test_relaxations_report_one_hot_draws_and_are_biased(estimate):
    """As documented, by 10 standard errors of 20,000 draws and more, for a reward of which two maxima are far apart."""
    reward, logits = Table(2, 3), torch.tensor([[0.5, 0.0, -0.5], [0.0, 0.3, 0.6]], dtype=torch.float64)
    reward.values = torch.tensor([[3.0, 0, -3], [0, 0, 0], [-3, 0, 3]], dtype=torch.float64)
    found, error = rows_of(estimate, reward, logits, rows=20_000)
    beyond("bias, standard errors", ((found - exact(reward, logits)).abs() / error).max(), 10.0)
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
    """Unbiased for it, whatever the gradient in q: 4 normal deviates, 2e-6 of the seeds fail."""
    oracle, rows = Categories(2, 3, outputs=4, count=1), 10_000
    logits = moderate(1, 2, 3).expand(rows, -1, -1)
    batch = batch_of(oracle.x.expand(rows, -1))

    def slopes(objective, at, count):
        shift = torch.zeros(count, 4, dtype=torch.float64, requires_grad=True)
        model = LatentVariableModel(oracle.model.prior, nn.Identity(), oracle.model.likelihood)
        model.decode = lambda z, x=None: oracle.model.decode(z) + shift
        total = objective(model, IndependentCategorical(at), batch_of(batch.x[:count]), 2).surrogate.sum()
        return torch.autograd.grad(total, shift)[0]

    found = slopes(DiscreteElbo(gradient), logits, rows)
    expected = slopes(DiscreteElbo(Enumeration()), logits[:1], 1)[0]
    means("gradient", found, expected)


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
