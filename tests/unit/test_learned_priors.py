"""Learned priors: identity starts, closed forms, exact identities, and what inference makes of them; float64."""

import math

import pytest
import torch
import zuko
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from chance import means
from curvae import curvature
from curvae.curvature import Generic, Gram, Layerwise, MatrixFree
from curvae.distributions import kl
from curvae.flows import Autoregressive, HasJacobian, Planar, Radial, ZukoFlow, affine, gated, spline
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import elbo, log_weights
from curvae.posteriors import DiagonalGaussian, transformed
from curvae.priors import (
    FlowPrior,
    MixturePrior,
    ProductPrior,
    StandardNormal,
    VampPrior,
    autoregressive_prior,
    coupling_prior,
)
from curvae.priors.flow import jacobian_by_columns
from ingredients import encoder, stirred
from zoo import LinearGaussian, batch_of, points, relu_model, smooth_model

F32, F64 = torch.float32, torch.float64

FLOWS = {
    "affine": lambda size: Autoregressive(size, 0, 3, [8], affine()),
    "coupling": lambda size: Autoregressive(size, 0, 3, [8, 6], affine(), passes=2),
    "three-groups": lambda size: Autoregressive(size, 0, 2, [8], affine(), passes=3),
    "gated": lambda size: Autoregressive(size, 2, 2, [8], gated()),
    "spline": lambda size: Autoregressive(size, 0, 2, [8], spline(4), passes=2),
    "radial": lambda size: Radial(size, steps=3),
    "zuko": lambda size: ZukoFlow(zuko.flows.MAF(size, transforms=2, hidden_features=(8,)), size),
}


@pytest.fixture(params=FLOWS)
def flow(request):
    return FLOWS[request.param]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_it_starts_at_a_normal_in_the_units_that_it_names(flow, size):
    """And has a slope there, by which it leaves."""
    prior, z = FlowPrior(flow(size)).double(), points(size)
    unit = prior.start_from(torch.ones(size, dtype=F64))
    torch.testing.assert_close(prior.log_prob(z), Normal(0, 1 / unit).log_prob(z).sum(-1))
    slopes = torch.autograd.grad(prior.log_prob(z).sum(), [*prior.parameters()], allow_unused=True)
    assert any(slope is not None and (slope != 0).any() for slope in slopes)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_volume_draws_and_jacobian(flow, size):
    """The log-determinant and the Jacobian by hand against autograd; draws are the exact inverse."""
    prior, z = stirred(FlowPrior(flow(size)).double(), 0.2), points(size)
    noise, log_det = prior.to_noise(z)
    jacobian = jacobian_by_columns(lambda at: prior.to_noise(at).z, z)
    sign, expected = torch.linalg.slogdet(jacobian)
    assert (sign == 1).all()
    torch.testing.assert_close(log_det, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(prior.from_noise(noise).z, z, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(prior.from_noise(noise).log_det, -log_det, atol=1e-7, rtol=1e-7)
    if isinstance(prior.flow, HasJacobian):
        context = None if prior.context is None else prior.context.unsqueeze(0)
        torch.testing.assert_close(prior.flow.jacobian(z.unsqueeze(1), context).squeeze(1), jacobian)
    draws = prior.sample(6, torch.Generator().manual_seed(1))
    u = torch.randn(6, size, dtype=F64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(prior.to_noise(draws).z, u, atol=1e-7, rtol=1e-7)


def test_density_integrates_to_one(flow):
    prior = stirred(FlowPrior(flow(2)).double(), 0.2)
    axis = torch.linspace(-30, 30, 1201, dtype=F64)
    with torch.no_grad():
        mass = prior.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=5e-3)


def test_an_autoregressive_prior_sees_only_what_came_before():
    step = stirred(FlowPrior(Autoregressive(5, 0, 1, [16], affine())).double())
    slope = jacobian_by_columns(lambda at: step.to_noise(at).z, points(5)).abs().amax(0)
    assert (slope.triu(1) == 0).all()
    assert (slope.tril(-1) > 0).sum() == 10


def test_an_autoregressive_prior_is_an_inverse_autoregressive_posterior():
    """With u = f(z) as the latent: N(0, I) is its prior, the image of q under f its posterior, f^-1 in the decoder."""
    model, batch = relu_model()
    prior = stirred(autoregressive_prior(3, steps=2, hidden=[8]).double())
    q = DiagonalGaussian(*(0.5 * torch.randn(2, 8, 3, dtype=F64)))
    draws = q.draw(4, torch.Generator().manual_seed(0))
    image = transformed(q, prior.flow).draw(4, torch.Generator().manual_seed(0))
    back = prior.from_noise(image.z).z
    there = model.likelihood.log_prob(batch.x, model.decode(back)) + StandardNormal(3).log_prob(image.z) - image.log_q
    ours = LatentVariableModel(prior, model.decoder, model.likelihood).log_joint(batch.x, draws.z) - draws.log_q
    torch.testing.assert_close(there, ours)


def rate_and_aggregate(prior, q):
    """``mean_n KL(q_n || p)``, ``I(n; z)`` and ``KL(q(z) || p)`` of Gaussians in two dimensions, by a grid."""
    axis = torch.linspace(-8, 8, 321, dtype=F64)
    grid, cell = torch.cartesian_prod(axis, axis), (axis[1] - axis[0]) ** 2
    with torch.no_grad():
        each = q.log_prob(grid.unsqueeze(1).expand(-1, len(q.loc), -1))
        whole, level = each.logsumexp(1) - math.log(len(q.loc)), prior.log_prob(grid)
    rate = (each.exp() * (each - level.unsqueeze(1))).sum(0).mean() * cell
    information = (each.exp() * (each - whole.unsqueeze(1))).sum(0).mean() * cell
    return rate, information, (whole.exp() * (whole - level)).sum() * cell


@pytest.mark.statistical
@torch.no_grad()
@pytest.mark.parametrize("kind", ["normal", "flow", "mixture"])
def test_the_aggregate_posterior_identity(kind):
    """``mean_n KL(q_n || p) = I + KL(q(z) || p)``, so that the best prior is the aggregate of posteriors.

    By a grid to rounding, and its left side by draws: a normal deviate of 20,000, beyond 5 for 6e-7 of the seeds.
    """
    q = DiagonalGaussian(torch.randn(64, 2, dtype=F64), -1 + 0.3 * torch.randn(64, 2, dtype=F64))
    prior = {
        "normal": lambda: StandardNormal(2),
        "flow": lambda: stirred(coupling_prior(2, hidden=[8]).double()),
        "mixture": lambda: stirred(MixturePrior(2, components=3).double()),
    }[kind]()
    rate, information, aggregate = rate_and_aggregate(prior, q)
    torch.testing.assert_close(rate, information + aggregate, atol=1e-6, rtol=1e-6)
    assert aggregate > 0
    found = q.draw(20_000)
    means("rate", (found.log_q - prior.log_prob(found.z)).mean(1), rate)


def test_a_flow_learns_a_ring():
    """Of posteriors on a circle the flow alone gains most of what N(0, I) leaves, and never below 0."""
    angle = torch.arange(64, dtype=F64) * 2 * math.pi / 64
    q = DiagonalGaussian(2 * torch.stack([angle.cos(), angle.sin()], -1), torch.full((64, 2), math.log(0.3)).double())
    before = rate_and_aggregate(StandardNormal(2), q)[2]
    prior = FlowPrior(Autoregressive(2, 0, 2, [32], spline(8), passes=2)).double()
    optimizer = torch.optim.Adam(prior.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        (-prior.log_prob(q.draw(2).z)).mean().backward()
        optimizer.step()
    after = rate_and_aggregate(prior, q)[2]
    assert 0 < after < 0.25 * before


@pytest.mark.parametrize("route", [Gram, Layerwise, Generic, MatrixFree])
@pytest.mark.parametrize("kind", ["flow", "radial", "mixture", "vamp"])
def test_every_route_has_the_slope_and_curvature_of_the_prior(route, kind):
    prior = {
        "flow": lambda: coupling_prior(3, hidden=[8]),
        "radial": lambda: FlowPrior(Radial(3, 2)),
        "mixture": lambda: MixturePrior(3, components=3),
        "vamp": lambda: joined(),
    }[kind]()
    model, batch = relu_model(prior=stirred(prior.double()))
    plain = LatentVariableModel(StandardNormal(3), model.decoder, model.likelihood)
    z = points()
    near = route.of(model, batch, z).at(z)
    other = curvature.local(plain, batch, z)
    torch.testing.assert_close(near.log_joint, model.log_joint(batch.x, z))
    slope = torch.func.grad(lambda at: model.log_joint(batch.x, at).sum())(z)
    torch.testing.assert_close(near.grad(), slope)
    local = near.local()
    torch.testing.assert_close(local.grad, slope)
    expected = other.precision - torch.eye(3, dtype=F64) + model.prior.precision(z)
    torch.testing.assert_close(local.precision, expected)
    v = torch.randn(8, 3, dtype=F64)
    torch.testing.assert_close(near.product(v), (expected @ v.unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(near.residual(v), slope - (expected @ v.unsqueeze(-1)).squeeze(-1))


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_laplace_posterior_has_the_curvature_at_its_own_mean(constant, smooth):
    """That of the prior changes from point to point, also where the decoder is linear in pieces; with its gradient."""
    model, batch = smooth_model() if smooth else relu_model()
    model.prior = stirred(coupling_prior(3, hidden=[8]).double())
    inference = Laplace(AmortizedGaussian(encoder(6)), steps=20, constant=constant)
    found = inference(model, batch)
    q = found.posterior
    local = curvature.local(model, batch, q.mean.detach())
    torch.testing.assert_close(q.precision, local.precision, atol=1e-8, rtol=1e-8)
    assert (found.info["log_joint"][-1] >= found.info["log_joint"][0] - 1e-9).all()
    if not constant:
        slopes = torch.autograd.grad(q.precision.sum() + q.mean.sum(), [*model.prior.parameters()], allow_unused=True)
        assert any(slope is not None and (slope != 0).any() for slope in slopes)


def test_laplace_is_exact_under_a_flow_that_is_affine():
    """``u = exp(s) z + m``: then p(z) is a normal, and a linear decoder has a normal posterior."""
    oracle = LinearGaussian()
    prior = FlowPrior(Autoregressive(1, 0, 1, [4], affine())).double()
    shift, scale = 0.7, torch.tensor(0.4, dtype=F64)
    with torch.no_grad():
        for parameter, value in zip(prior.parameters(), (shift, scale), strict=True):
            parameter.fill_(value)
    s = scale / (1 + scale / math.log(1000))  # softly bounded
    whole = ProductPrior([prior, StandardNormal(2)])
    model = LatentVariableModel(whole, oracle.model.decoder, oracle.model.likelihood)
    found = Laplace(AmortizedGaussian(encoder(6)), steps=4)(model, oracle.batch)
    log_w = log_weights(model, oracle.batch, found.posterior.draw(5))
    center = torch.zeros(3, dtype=F64).index_fill(0, torch.tensor([0]), float(-shift * torch.exp(-s)))
    spread = torch.diag(torch.tensor([float((-2 * s).exp()), 1.0, 1.0], dtype=F64))
    noise = oracle.scale**2 * torch.eye(len(oracle.bias), dtype=F64)
    law = torch.distributions.MultivariateNormal(
        oracle.bias + oracle.weight @ center, oracle.weight @ spread @ oracle.weight.mT + noise
    )
    torch.testing.assert_close(log_w, law.log_prob(oracle.x).expand_as(log_w), atol=1e-9, rtol=1e-9)


class TestMixture:
    def test_against_torch(self):
        prior, z = stirred(MixturePrior(3, components=4).double()), points()
        laws = prior.laws
        each = Independent(Normal(laws.loc, laws.log_scale.exp()), 1)
        reference = MixtureSameFamily(Categorical(logits=prior.logits), each)
        torch.testing.assert_close(prior.log_prob(z), reference.log_prob(z))
        joint = prior.logits.log_softmax(-1) + each.log_prob(z.unsqueeze(1))
        torch.testing.assert_close(prior.responsibilities(z), (joint - joint.logsumexp(-1, keepdim=True)).exp())

    def test_one_component_is_a_normal(self):
        """Exactly: N(0, I) to begin with, its divergence closed, and the same ELBO to the last bit."""
        model, batch = relu_model()
        other = LatentVariableModel(MixturePrior(3, components=1).double(), model.decoder, model.likelihood)
        q = DiagonalGaussian(*(0.5 * torch.randn(2, 8, 3, dtype=F64)))
        one, two = (elbo(each, q, batch, 3, generator=torch.Generator().manual_seed(0)) for each in (model, other))
        torch.testing.assert_close(one.value, two.value, atol=1e-12, rtol=1e-12)
        prior = stirred(MixturePrior(3, components=1).double())
        z = points()
        expected = Normal(prior.laws.loc, prior.laws.log_scale.exp()).log_prob(z).sum(-1)
        torch.testing.assert_close(prior.log_prob(z), expected)
        assert kl(q, MixturePrior(3, components=2)) is None

    def test_the_exact_sum_over_components(self):
        """``KL(q || p) <= sum_c q(c) KL(q || p_c) + KL(q(c) || pi)`` for any q(c), with 1-D quadrature for the left."""
        prior = stirred(MixturePrior(1, components=3).double())
        q = DiagonalGaussian(torch.tensor([[0.4]], dtype=F64), torch.tensor([[-0.5]], dtype=F64))
        z = torch.linspace(-12, 12, 20001, dtype=F64).reshape(-1, 1, 1)
        density = q.log_prob(z)
        exact = (density.exp() * (density - prior.log_prob(z))).sum() * (z[1] - z[0]).item()
        draws = q.draw(100_000)
        estimate = draws.log_q - prior.log_prob(draws.z)
        assert abs(estimate.mean() - exact) < 6 * estimate.std() / 100_000**0.5
        assert exact > 0
        each = torch.stack([kl(q, DiagonalGaussian(*laws))[0, 0] for laws in zip(*self.split(prior), strict=True)])
        best = -torch.logsumexp(prior.logits.log_softmax(-1) - each, 0)
        assert exact <= best + 1e-9

    def split(self, prior):
        return prior.laws.loc.unsqueeze(1), prior.laws.log_scale.unsqueeze(1)

    def test_it_starts_at_clusters(self):
        centers = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 5.0]], dtype=F64)
        means = centers.repeat_interleave(torch.tensor([50, 100, 150]), 0)
        means = means + 0.2 * torch.randn_like(means)
        q = DiagonalGaussian(means, torch.full_like(means, math.log(0.3)))
        prior = MixturePrior(2, components=3).double()
        prior.start_at(means, q)
        order = prior.logits.argsort()
        torch.testing.assert_close(prior.loc[order], centers, atol=0.15, rtol=0)
        torch.testing.assert_close(prior.logits[order].softmax(-1), torch.tensor([1 / 6, 1 / 3, 1 / 2], dtype=F64))
        spread = torch.full((3, 2), math.hypot(0.2, 0.3), dtype=F64)
        torch.testing.assert_close(prior.laws.log_scale.exp(), spread, atol=0.06, rtol=0)
        MixturePrior(2, components=5).start_at(means[:2].float(), DiagonalGaussian(means[:2], means[:2]))


def joined(components: int = 4) -> VampPrior:
    prior, network = VampPrior(3, (10,), components).double(), encoder(6)
    prior.join(lambda u: AmortizedGaussian(network)(None, batch_of(u)).posterior)
    return prior


class TestVamp:
    def test_it_is_the_mixture_of_the_encoders_posteriors(self):
        prior, z = VampPrior(3, (10,), 4).double(), points()
        inference = AmortizedGaussian(encoder(6))
        prior.join(lambda u: inference(None, batch_of(u)).posterior)
        q = inference(None, batch_of(prior.inputs)).posterior
        each = Independent(Normal(q.loc, q.log_scale.exp()), 1)
        reference = MixtureSameFamily(Categorical(logits=torch.zeros(4, dtype=F64)), each)
        torch.testing.assert_close(prior.log_prob(z), reference.log_prob(z))
        prior.log_prob(z).sum().backward()
        assert all((each.grad != 0).any() for each in (*prior.parameters(), *inference.parameters()))

    def test_narrow_components_keep_their_digits_in_single_precision(self):
        """Deviations of 1/1000 at distances of 1: terms near 10^6 cancel."""
        q = DiagonalGaussian(torch.randn(4, 3, dtype=F32), torch.randn(4, 3, dtype=F32) - 7)
        prior = VampPrior(3, (10,), 4)
        prior.join(lambda u: q)
        z = q.from_noise(torch.randn(4, 3, dtype=F32))
        exact = MixtureSameFamily(
            Categorical(logits=torch.zeros(4, dtype=F64)),
            Independent(Normal(q.loc.double(), q.log_scale.double().exp()), 1),
        )
        torch.testing.assert_close(prior.log_prob(z).double(), exact.log_prob(z.double()), atol=1e-5, rtol=1e-5)

    def test_it_does_not_own_the_encoder(self):
        assert [*joined().state_dict()] == ["inputs"]
        with pytest.raises(ValueError, match=r"expects an encoder; call join\(encode\) first"):
            VampPrior(2, (5,)).log_prob(torch.zeros(1, 2))

    def test_it_starts_at_rows(self):
        prior, x = VampPrior(3, (10,), 4), torch.randn(9, 10)
        prior.start_at(x, DiagonalGaussian(*torch.zeros(2, 9, 3)))
        assert torch.equal(prior.inputs, x[[0, 2, 5, 8]])
        many = VampPrior(3, (10,), 12)
        before = many.inputs.detach().clone()
        many.start_at(x, DiagonalGaussian(*torch.zeros(2, 9, 3)))
        assert torch.equal(many.inputs, torch.cat([x, before[9:]]))


def test_a_product_is_of_blocks():
    parts = [stirred(coupling_prior(2, hidden=[8]).double()), StandardNormal(1).double()]
    prior, z = ProductPrior(parts), points()
    expected = parts[0].log_prob(z[:, :2]) + parts[1].log_prob(z[:, 2:])
    torch.testing.assert_close(prior.log_prob(z), expected)
    q = DiagonalGaussian(*(0.5 * torch.randn(2, 8, 3, dtype=F64)))
    assert kl(q, prior) is None
    normal = ProductPrior([StandardNormal(2), MixturePrior(1, components=1)]).double()
    torch.testing.assert_close(kl(q, normal), kl(q, StandardNormal(3, (2, 1))))
    assert normal.quadratic
    assert not prior.quadratic
    with pytest.raises(ValueError, match="expects 1 or more priors; got none"):
        ProductPrior([])


def test_refusals():
    with pytest.raises(ValueError, match="FlowPrior: expects a flow with an inverse, for its draws; got Planar"):
        FlowPrior(Planar(3))
    with pytest.raises(ValueError, match="MixturePrior: components must be 1 or more; got 0"):
        MixturePrior(3, components=0)
    with pytest.raises(ValueError, match="VampPrior: components must be 1 or more; got 0"):
        VampPrior(3, (4,), components=0)
    with pytest.raises(ValueError, match="the identity where its networks say 0"):
        FlowPrior(ZukoFlow(zuko.flows.NAF(2, transforms=1), 2))


def test_an_evidence_by_quadrature():
    """The ELBO of an amortized posterior under a learned prior lies below log p(x), its weights average to p(x)."""
    prior = stirred(coupling_prior(2, hidden=[8]).double())
    model = LatentVariableModel(prior, MLP(2, [6], 4).double(), Gaussian(4, scale=1.5)).double()
    x = model.sample(3)[0].detach()
    axis = torch.linspace(-9, 9, 301, dtype=F64)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 3, -1)
    with torch.no_grad():
        evidence = model.log_joint(x, grid).logsumexp(0) + 2 * (axis[1] - axis[0]).log()
        q = DiagonalGaussian(torch.zeros(3, 2, dtype=F64), torch.full((3, 2), 0.4, dtype=F64))
        draws = q.draw(20_000)
        log_w = log_weights(model, batch_of(x), draws)
    ratio = (log_w - evidence).exp()
    assert ((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / 20_000**0.5).all()
    assert (log_w.mean(0) < evidence).all()
