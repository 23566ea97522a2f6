"""Deep latent Gaussian models: the rank-1 precision against dense algebra, its gradient, and the layered decoder."""

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from curvae.inference import AmortizedRankOne, refiner_at_test_time
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import TopDownDecoder
from curvae.noise import common_noise
from curvae.objectives import log_weights
from curvae.posteriors import DiagonalGaussian, RankOneGaussian, kl
from curvae.priors import StandardNormal
from curvae.systems import dlgm
from curvae.typing import Batch, DataSpec
from zoo import batch_of

BLOCKS = (2, 1, 3)
EYE = torch.eye(6, dtype=torch.float64)


def rank_one(count: int = 4) -> RankOneGaussian:
    return RankOneGaussian(*torch.randn(3, count, 6, dtype=torch.float64), blocks=BLOCKS)


def dense(q: RankOneGaussian) -> torch.Tensor:
    """The covariance by its definition."""
    each = [
        torch.diag_embed((-2 * s).exp()) + u.unsqueeze(-1) * u.unsqueeze(-2)
        for s, u in zip(q.log_scale.split(q.blocks, -1), q.direction.split(q.blocks, -1), strict=True)
    ]
    return torch.stack([torch.linalg.inv(torch.block_diag(*layers)) for layers in zip(*each, strict=True)])


def factor(q: RankOneGaussian) -> torch.Tensor:
    """R, column by column."""
    return q.color(EYE.unsqueeze(1).expand(-1, len(q.loc), -1)).permute(1, 2, 0)


def test_factor_determinant_and_moments_are_the_dense_ones():
    q = rank_one()
    expected, root = dense(q), factor(q)
    torch.testing.assert_close(root @ root.mT, expected, atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(q.covariance, expected, atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(q.variance, expected.diagonal(dim1=-2, dim2=-1), atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(q.half_log_det, 0.5 * expected.logdet(), atol=1e-13, rtol=1e-13)
    assert not torch.allclose(root.mT @ root, expected, atol=1e-2), "R is not symmetric: its side matters"


def test_draws_and_density_are_the_dense_ones():
    q = rank_one()
    draws = q.draw(7, common_noise(0))
    exact = torch.distributions.MultivariateNormal(q.loc, dense(q))
    torch.testing.assert_close(draws.log_q, exact.log_prob(draws.z), atol=1e-11, rtol=1e-11)
    eps = torch.randn(5, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(q.whiten(q.color(eps)), eps, atol=1e-12, rtol=1e-12)


def test_divergence_splits_over_the_layers():
    q = rank_one()
    each = kl(q, StandardNormal(6, BLOCKS))
    start = 0
    for layer, size in enumerate(BLOCKS):
        part = slice(start, start + size)
        one = torch.distributions.MultivariateNormal(q.loc[:, part], dense(q)[:, part, part])
        prior = torch.distributions.MultivariateNormal(torch.zeros(size).double(), torch.eye(size).double())
        torch.testing.assert_close(each[:, layer], torch.distributions.kl_divergence(one, prior))
        start += size


def test_no_direction_is_the_diagonal_and_nothing_is_divided_by_it():
    loc, log_scale = torch.randn(2, 4, 6, dtype=torch.float64)
    direction = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    q, plain = RankOneGaussian(loc, log_scale, direction, BLOCKS), DiagonalGaussian(loc, log_scale)
    one, two = (each.draw(5, common_noise(1)) for each in (q, plain))
    torch.testing.assert_close(one.z, two.z)
    torch.testing.assert_close(one.log_q, two.log_q)
    (slope,) = torch.autograd.grad(one.z.sum() + one.log_q.sum(), direction)
    assert slope.isfinite().all()


def quadratic_and_cubic(z: torch.Tensor) -> torch.Tensor:
    matrix = torch.tensor([[1.0, 0.4], [0.4, -0.7]], dtype=torch.float64)
    return torch.einsum("...i,ij,...j->...", z, matrix, z) + z[..., 0] ** 3 - 0.5 * z[..., 0] * z[..., 1] ** 2


def test_path_gradient_is_that_of_bonnet_and_price():
    """d E f / d m = E grad f and d E f / d C = E hess f / 2 (the paper's section 3), all by quadrature, no noise."""
    nodes, weights = (torch.tensor(each) for each in hermegauss(6))
    eps = torch.cartesian_prod(nodes, nodes).unsqueeze(1)
    mass = torch.outer(weights, weights).flatten() / weights.sum() ** 2
    leaves = [each.requires_grad_(True) for each in torch.randn(3, 1, 2, dtype=torch.float64)]
    q = RankOneGaussian(*leaves, blocks=(2,))
    z = q.loc + q.color(eps)
    path = torch.autograd.grad((mass * quadratic_and_cubic(z)[:, 0]).sum(), leaves)
    at = z.detach()[:, 0]
    slope = torch.vmap(torch.func.grad(quadratic_and_cubic))(at)
    curve = torch.vmap(torch.func.hessian(quadratic_and_cubic))(at)
    torch.testing.assert_close(path[0][0], torch.einsum("s,si->i", mass, slope))
    half = 0.5 * torch.einsum("s,sij->ij", mass, curve)
    price = torch.autograd.grad((half * RankOneGaussian(*leaves, blocks=(2,)).covariance[0]).sum(), leaves[1:])
    for one, two in zip(path[1:], price, strict=True):
        torch.testing.assert_close(one, two)


def one_output(scale: float = 0.5) -> tuple[LatentVariableModel, Batch, torch.Tensor]:
    """One output: the exact precision is I + w w' / s^2, a diagonal and one rank."""
    decoder = TopDownDecoder([nn.Linear(3, 3, bias=False)], [nn.Linear(3, 1)], (3,)).double()
    model = LatentVariableModel(StandardNormal(3), decoder, Gaussian(1, scale=scale)).double()
    nn.init.orthogonal_(decoder.noise[0].weight)
    nn.init.constant_(decoder.maps[0].weight, 1.0)
    weight = (decoder.maps[0].weight @ decoder.noise[0].weight).detach()[0]
    return model, batch_of(torch.randn(4, 1, dtype=torch.float64)), weight


def test_exact_where_the_posterior_has_rank_one():
    model, batch, weight = one_output()
    bias = model.decoder.maps[0].bias.detach()
    variance = weight.square().sum() + 0.25
    loc = (batch.x - bias) * weight / variance
    direction = (weight / 0.5).expand(4, -1)
    q = RankOneGaussian(loc, torch.zeros_like(loc), direction, (3,))
    evidence = torch.distributions.Normal(bias, variance.sqrt()).log_prob(batch.x)[:, 0]
    torch.testing.assert_close(log_weights(model, batch, q.draw(5)), evidence.expand(5, -1), atol=1e-12, rtol=1e-12)


def test_a_rank_is_worth_nats_for_the_same_decoder():
    """From the best diagonal Gaussian the direction finds nearly all of the gap, for each datum; the KL is exact."""
    model, batch, weight = one_output(scale=0.2)
    bias, variance = model.decoder.maps[0].bias.detach(), weight.square().sum() + 0.04
    loc = (batch.x - bias) * weight / variance
    log_scale = -0.5 * (1 + weight.square() / 0.04).log().expand(4, -1)
    start = RankOneGaussian(loc, log_scale, torch.full_like(loc, 0.01) * weight.sign(), (3,))
    end = refiner_at_test_time(600, rate=0.1)(model, start, batch).posterior
    exact = MultivariateNormal(loc, precision_matrix=EYE[:3, :3] + weight.outer(weight) / 0.04)
    before, after = (kl_divergence(MultivariateNormal(q.mean, q.covariance), exact).detach() for q in (start, end))
    gap = 0.5 * ((1 + weight.square() / 0.04).log().sum() - (variance / 0.04).log())
    assert gap > 1
    torch.testing.assert_close(before, gap.expand(4), atol=0.01, rtol=0)
    assert (after < 0.02).all()


def test_layers_of_noise_enter_on_the_way_down():
    """Linear maps: eta is (T_2 T_1 G_1, T_2 G_2) z and a constant."""
    first, second = nn.Linear(2, 3), nn.Linear(3, 5)
    enter = [nn.Linear(2, 2, bias=False), nn.Linear(3, 3, bias=False)]
    decoder = TopDownDecoder(enter, [first, second], (2, 3)).double()
    matrix = torch.cat([second.weight @ first.weight @ enter[0].weight, second.weight @ enter[1].weight], dim=1)
    z = torch.randn(7, 5, dtype=torch.float64)
    constant = second(first.bias)
    torch.testing.assert_close(decoder(z), z @ matrix.mT + constant)


def test_system_starts_near_the_diagonal_and_says_each_layer():
    system = dlgm(DataSpec((6,)), latent=2, layers=3, hidden=8)
    batch = Batch(torch.randn(5, 6), torch.arange(5))
    q = system.inference(system.model, batch).posterior
    assert kl(q, system.model.prior).shape == (5, 3)
    assert sum(p.numel() for p in system.model.decoder.noise.parameters()) == 3 * 4


def test_misuse():
    zeros = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="blocks must sum to the 3 dimensions of loc"):
        RankOneGaussian(zeros, zeros, zeros, (2,))
    with pytest.raises(ValueError, match="tilt must be positive; got 0"):
        AmortizedRankOne(nn.Linear(5, 9), (3,), tilt=0)
    with pytest.raises(ValueError, match=r"must give 3 D = 9 values; got \(6,\)"):
        AmortizedRankOne(nn.Linear(5, 6), (3,))(None, Batch(torch.zeros(2, 5), torch.arange(2)))
    with pytest.raises(ValueError, match="one noise module and one map for each"):
        TopDownDecoder([nn.Linear(2, 2)], [], (2,))
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        dlgm(DataSpec((6,)), layers=0)
