"""The skew Jensen-Shannon and the mutual posterior divergence, against torch, loops and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import (
    MutualDivergence,
    SkewJensenShannon,
    elbo,
    pairwise_kl,
    skew_jensen_shannon,
)
from curvae.posteriors import DiagonalGaussian, FullGaussian
from curvae.priors import StandardNormal
from curvae.typing import Batch
from quadrature import Given
from zoo import relu_model

DOUBLE = torch.float64


def test_skew_divergence_against_torch_and_its_identity():
    """Ends are the two divergences; in between (1 - a)^2 KL(q || p) + a^2 KL(p || q) + log int q^a p^(1 - a)."""
    loc, log_scale = 0.7 * torch.randn(2, 5, 1, dtype=DOUBLE)
    q, p = Normal(loc, log_scale.exp()), Normal(torch.zeros_like(loc), torch.ones_like(loc))
    down, back = torch_kl(q, p).sum(-1), torch_kl(p, q).sum(-1)
    torch.testing.assert_close(skew_jensen_shannon(loc, log_scale, 0.0), down)
    torch.testing.assert_close(skew_jensen_shannon(loc, log_scale, 1.0), back)
    grid = torch.linspace(-30, 30, 60_001, dtype=DOUBLE)[:, None, None]
    overlap = (0.3 * q.log_prob(grid) + 0.7 * p.log_prob(grid)).exp().sum((0, -1)) * 1e-3
    expected = 0.7**2 * down + 0.3**2 * back + overlap.log()
    torch.testing.assert_close(skew_jensen_shannon(loc, log_scale, 0.3), expected, atol=1e-8, rtol=1e-8)


def test_skew_objective_is_the_elbo_at_0_and_reports_it_always():
    model, batch = relu_model("gaussian")
    leaves = 0.5 * torch.randn(2, 8, 3, dtype=DOUBLE)
    noise = torch.randn(2, 8, 3, dtype=DOUBLE)
    plain_bound = elbo(model, Given(*leaves, noise), batch, 2)
    for skew in (0.0, 0.4):
        bound = SkewJensenShannon(skew, weight=2.0)(model, Given(*leaves, noise), batch, 2)
        torch.testing.assert_close(bound.value, plain_bound.value)
        divergence = skew_jensen_shannon(*leaves, skew)
        torch.testing.assert_close(bound.surrogate, plain_bound.value + plain_bound.info["kl"] - 2 * divergence)
    full = FullGaussian(leaves[0], torch.zeros(8, 3, 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="expects a DiagonalGaussian posterior and a StandardNormal prior; got FullG"):
        SkewJensenShannon()(model, full, batch, 2)


def regularizer(loc, log_scale, objective):
    """What the objective takes off the ELBO."""
    count, size = loc.shape
    decoder = nn.Linear(size, 2).to(loc.dtype)
    model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(2)).to(loc.dtype)
    batch = Batch(torch.zeros(count, 2, dtype=loc.dtype), torch.arange(count))
    bound = objective(model, DiagonalGaussian(loc, log_scale), batch, 3)
    return (bound.value + bound.info["kl"] - bound.info["kl"].mean() - bound.surrogate)[0]


def test_mutual_divergence_by_hand():
    """Two data, one latent: KL_12 = 1/2 (1/4 + 1/4 + log 4 - 1), KL_21 = 1/2 (4 + 1 - log 4 - 1)."""
    loc, log_scale = torch.tensor([[0.0], [1.0]], dtype=DOUBLE), torch.tensor([[0.0], [math.log(2)]], dtype=DOUBLE)
    one, two = 0.5 * (0.25 + 0.25 + math.log(4) - 1), 0.5 * (4 + 1 - math.log(4) - 1)
    torch.testing.assert_close(pairwise_kl(loc, log_scale).flatten(), torch.tensor([one, two], dtype=DOUBLE))
    expected = 2 * math.log1p(math.exp(-(one + two) / 2)) + 3 * abs(one - two) / math.sqrt(2)
    assert regularizer(loc, log_scale, MutualDivergence(2, 3)).item() == pytest.approx(expected)


def test_mutual_divergence_against_torch_and_loops():
    loc, log_scale = 0.7 * torch.randn(2, 5, 3, dtype=DOUBLE)
    q = Normal(loc, log_scale.exp())
    table = torch_kl(Normal(loc[:, None], q.scale[:, None]), Normal(loc[None], q.scale[None]))
    pairs = torch.stack([table[i, j] for i in range(5) for j in range(5) if i != j])
    torch.testing.assert_close(pairwise_kl(loc, log_scale), pairs)
    filled = table.sum(-1)
    filled.fill_diagonal_(pairs.sum(-1).mean())
    spread = filled.std() * math.sqrt((25 - 1) / (25 - 5 - 1))  # the diagonal filled, and corrected for it
    expected = -torch.sigmoid(pairs.mean(0)).log().sum() + 0.5 * spread
    torch.testing.assert_close(regularizer(loc, log_scale, MutualDivergence(1, 0.5)), expected)
    order = torch.randperm(5)
    torch.testing.assert_close(regularizer(loc[order], log_scale[order], MutualDivergence(1, 0.5)), expected)


def test_equal_posteriors_cost_log_2_a_latent_and_keep_gradients_finite():
    leaf = torch.zeros(2, 4, 3, dtype=DOUBLE, requires_grad=True)
    found = regularizer(*leaf, MutualDivergence(1.5, 1.0))
    assert found.item() == pytest.approx(1.5 * 3 * math.log(2))
    (gradient,) = torch.autograd.grad(found, leaf)
    assert gradient.isfinite().all()
    assert regularizer(*torch.zeros(2, 1, 3, dtype=DOUBLE), MutualDivergence(1.5, 1.0)).item() == 0, (
        "one datum, no pairs"
    )


def test_free_nats_are_of_the_mean_over_the_batch():
    loc = torch.tensor([[0.1], [2.0]], dtype=DOUBLE)  # KL 0.005 and 2, mean 1.0025
    for free, taken in ((0.5, 0.0), (3.0, 3 - 1.0025)):
        found = regularizer(loc, torch.zeros_like(loc), MutualDivergence(0, 0, free))
        assert found.item() == pytest.approx(taken)
