"""Direct optimization of discrete latents: the mean of its gradient, against sums over all values."""

import itertools

import pytest
import torch
from torch import nn

from chance import deviates, within
from curvae.distributions import all_states
from curvae.noise import gumbel
from curvae.objectives import (
    DirectArgmax,
    discrete,
)
from curvae.posteriors import IndependentCategorical, PairwiseBinary
from rewards import Table, exact, moderate, normal, rows_of


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
    """For any epsilon: up to 6 means of 50,000 bounded numbers, normal deviates, 4e-6 of the seeds fail."""
    reward, logits = Table(*shape), moderate(*shape)
    found, error = rows_of(DirectArgmax(e, relative=False), reward, logits, rows=50_000)
    deviates("gradient", (found - direct_mean(reward, logits, e)) / error)


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
    """Of E[f(argmax h + g)], for a reward that is a sum, by central differences with the same noise.

    Of 100,000 draws; the limit allows for the bias in epsilon, and is set by the tail over 200 seeds.
    """
    each, count = moderate(3), 100_000
    u = torch.rand(count, 3, dtype=torch.float64)
    noise = u.log() - (-u).log1p()
    fields, weights, _, rows = attracting(each, 0.05, noise)
    on = all_states(3, 2, fields)[:, 1::2]

    def value(at):
        return (on @ each)[(potential(at, weights, on) + noise @ on.mT).argmax(-1)]

    for step in 0.05 * torch.eye(3, dtype=torch.float64):
        slope = (value(fields + step) - value(fields - step)) / 0.1
        within("difference", (slope.mean() - rows[:, step.argmax()].mean()).abs(), 0.03)


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
