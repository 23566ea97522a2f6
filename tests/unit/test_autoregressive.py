"""Autoregressive flows: what depends on what, the gate, the cost of each direction, and what the family can reach."""

import pytest
import torch

from curvae.flows import Autoregressive, affine, gated, spline
from curvae.flows.univariate import Gate
from curvae.posteriors import DiagonalGaussian, transformed
from curvae.systems import coupling_vae, iaf_vae, spline_vae
from curvae.typing import DataSpec
from zoo import LinearGaussian

F64 = torch.float64


def slope_of(step: torch.nn.Module, context: torch.Tensor, size: int) -> torch.Tensor:
    """|d z'_i / d z_j| of one step, over several points."""
    points = torch.randn(10, size, dtype=F64)
    return torch.stack([torch.func.jacrev(step(context[0]))(z) for z in points]).abs().amax(0)


@pytest.mark.parametrize("univariate", [gated(), affine(), spline()])
def test_each_step_is_triangular_in_its_order(univariate):
    flow = Autoregressive(5, 3, 3, [32], univariate).double()
    context = torch.randn(1, 3, dtype=F64)
    for number, step in enumerate(flow.steps):
        slope = slope_of(step, context, 5)
        slope = slope.flip(0, 1) if number % 2 else slope
        assert (slope.triu(1) == 0).all()
        assert (slope.tril() > 0).sum() == 15


def test_coupling_has_two_groups():
    flow = Autoregressive(5, 3, 2, [32], affine(), passes=2).double()
    slope = slope_of(flow.steps[0], torch.randn(1, 3, dtype=F64), 5)
    assert (slope[:3, :3] == torch.diag(slope[:3, :3].diagonal())).all()
    assert (slope[3:, 3:] == torch.diag(slope[3:, 3:].diagonal())).all()
    assert (slope[:3, 3:] == 0).all()
    assert (slope[3:, :3] > 0).all()


def test_the_first_dimension_sees_the_datum_too():
    """It depends on no other latent: the context is all that its map can know, in every step."""
    flow = Autoregressive(4, 3, 2, [16, 16]).double()
    z, context = torch.randn(4, dtype=F64), torch.randn(3, dtype=F64)
    for number, step in enumerate(flow.steps):
        slope = torch.func.jacrev(lambda c, step=step: step(c)(z))(context)
        first = -1 if number % 2 else 0
        assert (slope[first] != 0).all()
        assert (slope != 0).all()


def test_gate_against_the_published_update():
    mean, raw, z = torch.randn(3, 7, dtype=F64)
    g = torch.sigmoid(raw + 2)
    moved, log_slope = Gate(mean, raw).call_and_ladj(z)
    torch.testing.assert_close(moved, g * z + (1 - g) * mean)
    torch.testing.assert_close(log_slope, g.log())
    torch.testing.assert_close(Gate(mean, raw).inv(moved), z)
    far = Gate(mean, torch.full((7,), -500.0, dtype=F64))
    assert far.log_gate.isfinite().all()


def test_a_new_flow_is_near_the_identity():
    """The gate starts open: 88 % of z is kept a step."""
    flow = Autoregressive(6, 4, 1)
    z = torch.randn(200, 3, 6)
    slope = (flow(z, torch.randn(3, 4)).log_det / 6).exp()
    assert ((slope > 0.75) & (slope < 0.97)).all()


@pytest.mark.parametrize(("passes", "expected"), [(None, 4), (3, 2), (2, 2)])
def test_draws_take_one_pass_and_other_points_take_more(passes, expected):
    """Of the network's first layer: one for each group of dimensions, of which 3 passes make two of two."""
    flow = Autoregressive(4, 3, 1, [8], passes=passes)
    assert flow.cheap == ("both" if passes == 2 else "forward")
    calls = []
    flow.steps[0].hyper[0].register_forward_hook(lambda *_: calls.append(1))
    q = transformed(DiagonalGaussian(*torch.zeros(2, 2, 4)), flow, torch.randn(2, 3))
    q.draw(5)
    assert len(calls) == 1
    calls.clear()
    q.log_prob(torch.randn(5, 2, 4))
    assert len(calls) == expected


def test_one_linear_step_reaches_the_exact_posterior_of_a_linear_gaussian_model():
    """IAF's published remark: a linear step gives every covariance, so that the ELBO reaches log p(x).

    The noise has mean 0 and covariance 1 exactly, and is symmetric, so that the sampled ELBO is exact at the optimum.
    """
    oracle = LinearGaussian(count=1)
    noise = torch.randn(500, 3, dtype=F64)
    half = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.mT @ noise / 500)).mT
    noise = torch.cat([half, -half]).unsqueeze(1)
    flow = Autoregressive(3, 1, 1, hidden=[]).double()
    loc, log_scale = torch.zeros(2, 1, 3, dtype=F64).requires_grad_(True).unbind(0)
    loc, log_scale = (value.detach().requires_grad_(True) for value in (loc, log_scale))
    free = [loc, log_scale, *flow.parameters()]
    search = torch.optim.LBFGS(free, max_iter=1500, max_eval=2000, tolerance_change=0, line_search_fn="strong_wolfe")

    def elbo():
        z = loc + log_scale.exp() * noise
        image = flow(z, torch.ones(1, 1, dtype=F64))
        log_q = DiagonalGaussian(loc, log_scale).log_prob(z) - image.log_det
        return oracle.model.log_joint(oracle.x, image.z) - log_q

    def loss():
        search.zero_grad()
        total = -elbo().mean()
        total.backward()
        return total

    search.step(loss)
    with torch.no_grad():
        torch.testing.assert_close(elbo().mean(0), oracle.log_evidence(), atol=1e-4, rtol=0)
        assert elbo().std() < 0.02


@pytest.mark.parametrize("size", [1, 2])
def test_few_dimensions(size):
    flow = Autoregressive(size, 3, 2, [8], affine(), passes=2)
    assert flow(torch.randn(5, 2, size), torch.randn(2, 3)).log_det.shape == (5, 2)


def test_misuse():
    spec = DataSpec((4,))
    with pytest.raises(ValueError, match="Autoregressive: steps must be 1 or more; got 0"):
        coupling_vae(spec, flows=0)
    with pytest.raises(ValueError, match="Autoregressive: context must be 0 or more; got -1"):
        iaf_vae(spec, context=-1)
    with pytest.raises(ValueError, match="free_bits or kl_warmup, not both"):
        iaf_vae(spec, free_bits=1.0, kl_warmup=10)
    with pytest.raises(ValueError, match="bins must be 2 or more; got 1"):
        spline_vae(spec, bins=1)
