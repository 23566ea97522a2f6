"""Flows: volume against numerical Jacobians, inverses, normalization, use of the datum, what more steps are worth."""

import pytest
import torch

from curvae.flows import Autoregressive, Continuous, Flow, InvertibleFlow, Planar, Radial, affine, gated, spline
from curvae.inference import AmortizedFlow
from curvae.posteriors import DiagonalGaussian, transformed
from curvae.systems import planar_vae, radial_vae, vae
from curvae.typing import DataSpec
from zoo import batch_of

F64 = torch.float64

FLOWS = {
    "planar": lambda size: Planar(size, steps=3),
    "radial": lambda size: Radial(size, steps=3),
    "gated": lambda size: Autoregressive(size, 4, 2, [16, 16], gated()),
    "affine": lambda size: Autoregressive(size, 4, 3, [16], affine()),
    "coupling": lambda size: Autoregressive(size, 4, 3, [16], affine(), passes=2),
    "spline": lambda size: Autoregressive(size, 4, 2, [16], spline(5)),
    "spline-coupling": lambda size: Autoregressive(size, 4, 2, [16], spline(5), passes=2),
    "continuous": lambda size: Continuous(size, 4, 4, [16, 16]),
}


@pytest.fixture(params=FLOWS)
def make(request):
    return FLOWS[request.param]


def context_of(flow: Flow, count: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(count, flow.context, dtype=F64)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_log_det_is_that_of_the_numerical_jacobian(make, size, scale):
    """Sign and size, in float64, and the determinant never changes its sign."""
    flow = make(size).double()
    context, points = context_of(flow, 1, scale), 2 * torch.randn(6, size, dtype=F64)
    for z in points:
        image = flow(z.reshape(1, 1, size), context)
        slope = torch.func.jacrev(lambda at: flow(at.reshape(1, 1, size), context).z.reshape(size))(z)
        sign, log_det = torch.linalg.slogdet(slope)
        assert sign == 1
        torch.testing.assert_close(image.log_det[0, 0], log_det, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("univariate", [gated(), affine(), spline(5)])
def test_a_flow_without_context_is_the_same_for_all_data(univariate):
    flow = Autoregressive(3, 0, 2, [16], univariate).double()
    z = torch.randn(5, 4, 3, dtype=F64)
    image = flow(z)
    for at, end, log_det in zip(z.flatten(0, 1), image.z.flatten(0, 1), image.log_det.flatten(), strict=True):
        slope = torch.func.jacrev(lambda at: flow(at.reshape(1, 1, 3)).z.reshape(3))(at)
        torch.testing.assert_close(torch.linalg.slogdet(slope)[1], log_det, atol=1e-9, rtol=1e-8)
        torch.testing.assert_close(flow(at.reshape(1, 1, 3)).z.reshape(3), end)
    back = flow.inverse(image.z)
    torch.testing.assert_close(back.z, z, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(back.log_det, -image.log_det, atol=1e-8, rtol=1e-8)
    q = AmortizedFlow(torch.nn.Linear(5, 6).double(), flow)(None, batch_of(torch.randn(4, 5, dtype=F64))).posterior
    assert set(q.tensors) == {"start.loc", "start.log_scale"}
    again = q.with_tensors({name: value[1:2] for name, value in q.tensors.items()})
    torch.testing.assert_close(again.log_prob(z[:, 1:2]), q.log_prob(z)[:, 1:2])


def test_log_q_is_less_where_volume_grows(make):
    flow = make(3).double()
    q = transformed(DiagonalGaussian(*torch.zeros(2, 1, 3, dtype=F64)), flow, context_of(flow, 1))
    draws, z = q.draw(1, torch.Generator().manual_seed(0)), q.start.draw(1, torch.Generator().manual_seed(0)).z
    slope = torch.func.jacrev(lambda at: flow(at.reshape(1, 1, 3), q.context).z.reshape(3))(z.reshape(3))
    expected = q.start.log_prob(z) - torch.linalg.slogdet(slope)[1]
    torch.testing.assert_close(draws.log_q, expected)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_inverse_goes_back(make, scale):
    flow = make(4).double()
    if not isinstance(flow, InvertibleFlow):
        return
    context, z = context_of(flow, 5, scale), 3 * torch.randn(50, 5, 4, dtype=F64)
    there = flow(z, context)
    back = flow.inverse(there.z, context)
    torch.testing.assert_close(back.z, z, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(back.log_det, -there.log_det, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("passes", [2, 3, None])
@pytest.mark.parametrize(("size", "context"), [(1, 4), (2, 0), (5, 0), (7, 4)])
@pytest.mark.parametrize("univariate", [gated, affine, spline])
def test_the_way_back_by_groups_is_that_of_all_dimensions_in_every_pass(univariate, size, context, passes):
    """Zuko maps every dimension back in every pass, and only then looks at volumes."""
    flow = Autoregressive(size, context, 3, [8, 8], univariate(), passes).double()
    for value in flow.parameters():
        value.data += 0.1 * torch.randn_like(value)
    z, seen = torch.randn(4, 6, size, dtype=F64), torch.randn(6, context, dtype=F64) if context else None
    found, log_det = flow.inverse(z, seen), 0.0
    for step in reversed(flow.steps):
        transform = step(seen)
        z = transform.inv(z)
        log_det = log_det - transform.call_and_ladj(z)[1]
    torch.testing.assert_close(found.z, z, atol=1e-10, rtol=1e-9)
    torch.testing.assert_close(found.log_det, log_det, atol=1e-9, rtol=1e-9)


def test_density_integrates_to_one(make):
    """By quadrature in two dimensions, where there is a density at any z."""
    flow = make(2).double()
    q = transformed(DiagonalGaussian(*(0.3 * torch.randn(2, 2, 2, dtype=F64))), flow, context_of(flow, 2, 0.7))
    if not isinstance(flow, InvertibleFlow):
        return
    axis = torch.linspace(-9, 9, 241, dtype=F64)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 2, 2)
    with torch.no_grad():
        mass = q.log_prob(grid).exp().sum(0) * (axis[1] - axis[0]) ** 2
    torch.testing.assert_close(mass, torch.ones(2, dtype=F64), atol=5e-3, rtol=0)


def test_every_datum_has_its_own_flow(make):
    """Flows whose parameters are shared by all data, or that ignore their context, are a public fault."""
    flow = make(3).double()
    z, context = torch.randn(1, 1, 3, dtype=F64).expand(1, 2, 3), context_of(flow, 2)
    image = flow(z, context)
    assert ((image.z[:, 0] - image.z[:, 1]).abs() > 1e-6).all()
    assert (image.log_det[:, 0] - image.log_det[:, 1]).abs().item() > 1e-6
    alone = flow(z[:, :1], context[:1])
    torch.testing.assert_close(alone.z, image.z[:, :1])
    slope = torch.func.jacrev(lambda c: flow(z, c).z)(context)
    assert (slope[0, 0, :, 1] == 0).all()
    assert (slope[0, 0, :, 0].abs().sum(-1) > 0).all()


def test_finite_far_out_in_single_precision(make):
    flow = make(3)
    for scale in (0.0, 1e-20, 30.0):
        context = (scale * torch.randn(4, flow.context)).requires_grad_(True)
        z = torch.cat([torch.zeros(1, 4, 3), 1e3 * torch.randn(2, 4, 3)])
        image = flow(z, context)
        (slope,) = torch.autograd.grad(image.z.sum() + image.log_det.sum(), context)
        assert image.z.isfinite().all()
        assert image.log_det.isfinite().all()
        assert slope.isfinite().all()


def test_zero_parameters_are_the_identity():
    z = torch.randn(5, 2, 3, dtype=F64)
    for flow in (Planar(3), Radial(3)):
        image = flow(z, torch.zeros(2, flow.context, dtype=F64))
        torch.testing.assert_close(image.z, z)
        torch.testing.assert_close(image.log_det, torch.zeros(5, 2, dtype=F64))
        near = flow(z, 1e-3 * torch.randn(2, flow.context, dtype=F64)).z
        assert (near - z).abs().max() < 0.05


class TestPlanar:
    def test_invertible_for_every_u(self):
        """``w'u^ > -1`` even for u far against w: along w, z never turns back."""
        w = torch.tensor([1.0, 2.0, 0.0], dtype=F64)
        for _ in range(20):
            u = 3 * torch.randn(3, dtype=F64) - 2 * w
            context = torch.cat([u, w, torch.randn(1, dtype=F64)]).unsqueeze(0)
            line = torch.linspace(-3, 3, 400, dtype=F64)[:, None, None] * w / w.square().sum()
            image = Planar(3, steps=1)(line, context)
            along = (image.z * w).sum(-1).squeeze(-1)
            assert (along.diff() > 0).all()
            assert self.displacement(context, w).dot(w) > -1

    def displacement(self, context: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """u^, seen where tanh is 1."""
        far = (1e3 * w / w.square().sum()).reshape(1, 1, 3)
        return (Planar(3, steps=1)(far, context).z - far).reshape(3)

    def test_u_keeps_what_lies_across_w(self):
        """Only the part of u along w is changed."""
        u, w = torch.randn(2, 3, dtype=F64)
        moved = self.displacement(torch.cat([u, w, torch.zeros(1, dtype=F64)]).unsqueeze(0), w) - u
        torch.testing.assert_close(moved, moved.dot(w) / w.dot(w) * w)

    def test_draws_have_the_density_of_an_inverse_by_bisection(self):
        """The density of one step, inverted numerically along w, integrates to 1 and is that of the draws."""
        u, w, b = torch.tensor([-1.0, 1.0], dtype=F64), torch.tensor([1.5, 0.5], dtype=F64), 0.4
        flow = Planar(2, steps=1)
        context = torch.cat([u, w, torch.tensor([b], dtype=F64)]).unsqueeze(0)
        far = (1e3 * w / w.square().sum()).reshape(1, 1, 2)
        push = (flow(far, context).z - far).reshape(2)
        q = transformed(DiagonalGaussian(*torch.zeros(2, 1, 2, dtype=F64)), flow, context)

        def density(z):
            target, low, high = z @ w, *(torch.full(z.shape[:-1], end, dtype=F64) for end in (-100.0, 100.0))
            for _ in range(60):
                middle = 0.5 * (low + high)
                above = middle + w.dot(push) * torch.tanh(middle + b) > target
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            begin = z - torch.tanh(low + b).unsqueeze(-1) * push
            return q.start.log_prob(begin) - flow(begin, context).log_det

        draws = q.draw(50)
        torch.testing.assert_close(density(draws.z), draws.log_q, atol=1e-8, rtol=1e-8)
        axis = torch.linspace(-10, 10, 801, dtype=F64)
        mass = density(torch.cartesian_prod(axis, axis).unsqueeze(1)).exp().sum() * (axis[1] - axis[0]) ** 2
        assert mass.item() == pytest.approx(1, abs=1e-3)


class TestRadial:
    def test_no_kink_at_its_center(self):
        flow = Radial(3, steps=1)
        context = context_of(flow, 1).requires_grad_(True)
        image = flow(context[:, :3].unsqueeze(0), context)
        assert all(slope.isfinite().all() for slope in torch.autograd.grad(image.log_det.sum(), context))
        torch.testing.assert_close(image.z[0], context[:, :3])

    def test_against_the_published_formula(self):
        flow, z = Radial(4, steps=1), torch.randn(6, 1, 4, dtype=F64)
        context = context_of(flow, 1)
        center, a, b = context[:, :4], *torch.nn.functional.softplus(context[:, 4:]).unbind(-1)
        beta, r = b - a, (z - center).norm(dim=-1)
        h, slope = 1 / (a + r), -1 / (a + r) ** 2
        image = flow(z, context)
        torch.testing.assert_close(image.z, z + (beta * h).unsqueeze(-1) * (z - center))
        torch.testing.assert_close(image.log_det, 3 * (1 + beta * h).log() + (1 + beta * h + beta * slope * r).log())


def two_moons(z: torch.Tensor) -> torch.Tensor:
    """A ring of two arcs, not normalized."""
    ring = -0.5 * ((z.norm(dim=-1) - 2) / 0.4) ** 2
    return ring + torch.logaddexp(*(-0.5 * ((z[..., 0] - side) / 0.6) ** 2 for side in (2, -2)))


def divergence_after_fit(flow: Flow, steps: int = 300) -> float:
    """KL(q || two moons), nats, of one datum's flow, all of its tensors free; the target is annealed as published."""
    generator = torch.Generator().manual_seed(0)
    context = 0.3 * torch.randn(1, flow.context, generator=generator)
    q = transformed(DiagonalGaussian(*torch.zeros(2, 1, 2)), flow, context)
    tensors = {name: value.clone().requires_grad_(True) for name, value in q.tensors.items()}
    optimizer = torch.optim.Adam(tensors.values(), 0.02)
    for step in range(steps):
        draws = q.with_tensors(tensors).draw(256, generator)
        loss = (draws.log_q - min(1, 0.01 + 2 * step / steps) * two_moons(draws.z)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    axis = torch.linspace(-6, 6, 601)
    normalizer = two_moons(torch.cartesian_prod(axis, axis)).logsumexp(0) + 2 * (axis[1] - axis[0]).log()
    with torch.no_grad():
        draws = q.with_tensors(tensors).draw(20_000, generator)
        return (draws.log_q - two_moons(draws.z)).mean().item() + normalizer.item()


def test_more_planar_steps_come_closer():
    """The divergence from a two-moons density falls with the number of steps; it is never negative."""
    one, four = (divergence_after_fit(Planar(2, steps)) for steps in (1, 4))
    assert one > four + 0.4
    assert 0 < four < 0.5


def test_means_start_as_widely_as_without_a_flow():
    """A layer with more outputs starts with smaller weights; means that start narrow invite a collapse to the prior."""
    spec = DataSpec((64,))
    plain = vae(spec, latent=8).inference.encoder[-1].weight
    for make in (planar_vae, radial_vae):
        head = make(spec, latent=8).inference.encoder[-1].weight[:16]
        assert head.std().item() == pytest.approx(plain.std().item(), rel=0.1)


def test_misuse():
    with pytest.raises(ValueError, match="Planar: steps must be 1 or more; got 0"):
        planar_vae(DataSpec((4,)), flows=0)
    with pytest.raises(ValueError, match="Radial: steps must be 1 or more; got 0"):
        radial_vae(DataSpec((4,)), flows=0)
    with pytest.raises(ValueError, match=r"the encoder must give 2 D \+ C \(means, log-scales, context\) = 13 values"):
        AmortizedFlow(torch.nn.Linear(5, 6), Planar(3, 1))(None, batch_of(torch.randn(4, 5)))
