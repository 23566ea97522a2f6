"""Laplace at several modes."""

import math
from functools import partial

import torch
from torch import nn

import methods
from curvae.inference import AmortizedGaussian, Laplace, MultimodalLaplace
from curvae.inference.multimodal_laplace import likeliest
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import log_mean_exp, log_weights
from curvae.posteriors import FullGaussian, Mixture
from curvae.priors import StandardNormal
from curvae.typing import Batch
from zoo import LinearGaussian, TwoModes


class Tilted(nn.Module):
    """eta = z^2 + z / 4: two modes of unequal mass."""

    def forward(self, z):
        return z.square() + 0.25 * z


def encoder() -> AmortizedGaussian:
    network = nn.Linear(1, 2).double()
    nn.init.constant_(network.bias, 0.5)
    return AmortizedGaussian(network)


def several(components: int = 8) -> MultimodalLaplace:
    return MultimodalLaplace(encoder(), components, partial(Laplace, steps=10))


def test_both_modes_where_a_single_one_misses_half_of_the_evidence():
    """Importance estimates of 20,000 draws of each; the third datum's modes lie 8 standard deviations apart."""
    oracle = TwoModes()
    found = {}
    for name, method in {"one": Laplace(encoder(), 10), "several": several()}.items():
        draws = method(oracle.model, oracle.batch).posterior.draw(20_000, torch.Generator().manual_seed(0))
        found[name] = log_mean_exp(log_weights(oracle.model, oracle.batch, draws), draws.log_c).detach()
    missing = {name: oracle.log_evidence() - value for name, value in found.items()}
    assert abs(missing["one"][2] - math.log(2)) < 0.02
    assert (missing["several"][1:].abs() < 0.03).all()


def test_weights_are_the_masses_of_the_modes():
    model = LatentVariableModel(StandardNormal(1), Tilted(), Gaussian(1, scale=0.2)).double()
    x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    found = several()(model, Batch(x, torch.arange(2)))
    grid = torch.linspace(-6, 6, 40_001, dtype=torch.float64)[:, None, None].expand(-1, 2, 1)
    mass = model.log_joint(x, grid).softmax(0)
    right = (mass * (grid[..., 0] > 0)).sum(0)
    positive = torch.stack([part.loc[:, 0] > 0 for part in found.posterior.components])
    weight = (found.posterior.log_weights.exp() * positive).sum(0)
    torch.testing.assert_close(weight, right, atol=0.01, rtol=0)
    assert (abs(weight - 0.5) > 0.05).all()
    torch.testing.assert_close(found.info["modes"], torch.full((2,), 2.0, dtype=torch.float64), atol=1e-3, rtol=0)


def test_copies_of_one_mode_share_its_weight():
    oracle = LinearGaussian()
    start = AmortizedGaussian(methods.encoder(2 * methods.D))
    found = MultimodalLaplace(start, 3)(oracle.model, oracle.batch)
    alone = Laplace(start)(oracle.model, oracle.batch)
    torch.testing.assert_close(found.posterior.log_weights.exp(), torch.full((3, 8), 1 / 3).double())
    torch.testing.assert_close(found.info["modes"], torch.ones(8).double())
    z = torch.randn(4, 8, methods.D, dtype=torch.float64)
    torch.testing.assert_close(found.posterior.log_prob(z), alone.posterior.log_prob(z))
    torch.testing.assert_close(found.encoder_bound, alone.encoder_bound)


def test_candidates_find_what_as_many_draws_of_the_prior_miss():
    """The encoder begins on one side; of 200 draws the two likeliest that lie apart are on either side."""
    model = LatentVariableModel(StandardNormal(1), Tilted(), Gaussian(1, scale=0.2)).double()
    batch = Batch(torch.full((4, 1), 4.0, dtype=torch.float64), torch.arange(4))
    for seed in range(5):
        found = MultimodalLaplace(encoder(), 3, partial(Laplace, steps=10), seed, candidates=200)(model, batch)
        torch.testing.assert_close(found.info["modes"], torch.full((4,), 2.0).double(), atol=1e-2, rtol=0)


def test_the_likeliest_candidates_lie_apart():
    model = LatentVariableModel(StandardNormal(2), nn.Identity(), Gaussian(2, scale=0.1)).double()
    draws = torch.randn(500, 2, dtype=torch.float64)
    x = draws[:7] + 0.01
    found = likeliest(model, Batch(x, torch.arange(7)), draws, 4)
    level = model.log_joint(x, draws.unsqueeze(1).expand(-1, 7, -1))
    torch.testing.assert_close(found[0], draws[level.argmax(0)])
    assert (torch.pdist(found[:, 0]).square() > 0.5 * draws.var(0).sum() * 0.99).all()


def test_info_is_that_of_the_heaviest_component():
    oracle = TwoModes()
    found = several(4)(oracle.model, oracle.batch)
    assert found.info["status"].shape == (3,)
    assert found.info["log_joint"].shape[1:] == (3,)
    end = oracle.model.log_joint(oracle.x, found.posterior.center[None])[0]
    torch.testing.assert_close(found.info["log_joint"][-1], end.detach())


def test_it_draws_the_same_starts_each_time():
    oracle = TwoModes()
    method = several(4)
    one, two_ = (method(oracle.model, oracle.batch).posterior for _ in range(2))
    assert torch.equal(one.logits, two_.logits)


def test_full_components_also_split():
    q = FullGaussian(torch.zeros(2, 1), torch.zeros(2, 1, 1))
    assert Mixture((q, q), torch.zeros(2, 2)).covariance.shape == (2, 1, 1)
