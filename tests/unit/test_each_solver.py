"""What each solver of the mode search does by itself, and the trace it leaves."""

import pytest
import torch
from torch import nn

from curvae.curvature import (
    ConjugateGradient,
    Generic,
    Gradient,
    Gram,
    Layerwise,
    LevenbergMarquardt,
    Newton,
    SearchHistory,
    has_changed,
    linearize,
    local,
)
from curvae.curvature.routes.matrix_free import MatrixFree
from curvae.curvature.solvers.mode_search import Record
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from searches import Undamped, left, searched, smooth_model
from zoo import LIKELIHOODS, LinearGaussian, Normal, batch_of, points, relu_model


@pytest.mark.parametrize("route", [Gram, Layerwise, Generic, MatrixFree])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("hidden", [False, True])
def test_products_of_a_route_are_those_of_its_formed_precision(route, likelihood, hidden):
    model, batch = relu_model(likelihood)
    model.prior = Normal.correlated(3)
    if hidden:
        batch = batch._replace(mask=torch.rand(batch.x.shape) < 0.7)
    if not route.fits(model, batch):
        return
    z, v = points(), points()
    one, expected = route.of(model, batch, z), local(model, batch, z, Generic)
    with torch.no_grad():
        torch.testing.assert_close(one.log_joint, expected.log_joint, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(one.grad(), expected.grad, atol=1e-9, rtol=1e-9)
        product = torch.einsum("bij,bj->bi", expected.precision, v)
        torch.testing.assert_close(one.product(v), product, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(one.product(torch.stack([v, 2 * v])), torch.stack([product, 2 * product]))


def test_conjugate_gradients_with_enough_iterations_are_newton():
    model, batch = smooth_model()
    z0 = points()
    route = linearize(model, batch, z0)
    exact, _ = searched(Newton(bfgs=0), route, z0, 6)
    found, _ = searched(ConjugateGradient(iterations=20, forcing=1e-14), route, z0, 6)
    torch.testing.assert_close(found, exact, atol=1e-10, rtol=1e-10)


def test_conjugate_gradients_never_go_down_where_the_precision_is_not_positive(monkeypatch):
    """It always is; were it not, the iterations would end there, and what was found until then is the step."""
    model, batch = smooth_model()
    z0 = points()
    route = linearize(model, batch, z0)
    signs = torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64)
    monkeypatch.setattr(type(route), "product", lambda self, v: signs * v)
    z, seen = searched(ConjugateGradient(), route, z0, 20)
    levels = torch.stack([*(here.log_joint for here in seen), route.at(z).log_joint])
    assert (levels.diff(dim=0) >= -1e-10).all()
    assert (levels[-1] > levels[0]).any()
    monkeypatch.setattr(type(route), "product", lambda self, v: -v)
    torch.testing.assert_close(searched(ConjugateGradient(), route, z0, 3)[0], z0)


def test_gradient_steps_lead_along_the_gradient():
    model, batch = smooth_model()
    z0 = points()
    route = linearize(model, batch, z0)
    step = searched(Gradient(reach=1e-3), route, z0, 1)[0] - z0
    grad = route.at(z0).grad()
    torch.testing.assert_close(step, 1e-3 * grad / grad.norm(dim=-1, keepdim=True))


def test_conjugate_gradients_form_no_precision(monkeypatch):
    model, batch = relu_model("gaussian")
    z0 = points()
    route = linearize(model, batch, z0)
    monkeypatch.setattr(Gram, "_likelihood", lambda *_: pytest.fail("formed"))
    searched(ConjugateGradient(), route, z0, 3)


def test_a_good_preconditioner_helps():
    """``diag Lam^-1`` where the latents have scales from 0.01 to 100."""
    decoder = nn.Linear(6, 12)
    with torch.no_grad():
        decoder.weight.mul_(torch.logspace(-2, 2, 6))
    model = LatentVariableModel(StandardNormal(6), decoder, Gaussian(12, scale=0.3)).double()
    batch, z0 = batch_of(torch.randn(4, 12, dtype=torch.float64)), points(6, 4)
    variance = 1 / local(model, batch, z0).precision.diagonal(dim1=-2, dim2=-1)
    solver = ConjugateGradient(iterations=3)
    plain, helped = (
        route.at(searched(solver, route, z0, 2)[0]).log_joint
        for route in (MatrixFree.of(model, batch, z0), MatrixFree.of(model, batch, z0, variance))
    )
    assert (helped > plain).all()


class Bends(nn.Module):
    """Two latents of scales 1 and 1000 behind functions that saturate: far out, the curvature hardly shows."""

    def forward(self, z):
        return torch.stack([10 * torch.atan(3 * z[..., 0]), 10 * torch.atan(0.003 * z[..., 1])], -1)


@pytest.mark.parametrize("diagonal", [True, False])
def test_levenberg_marquardt_where_newton_fails(diagonal):
    """Full Newton steps overshoot where the functions saturate; the damped ones find the mode all the same."""
    model = LatentVariableModel(Normal.independent(30.0, 30000.0), Bends(), Gaussian(2, scale=0.5)).double()
    x = torch.tensor([[5.0, -5.0], [0.0, 3.0], [-6.0, 6.0]], dtype=torch.float64)
    batch = batch_of(x)
    z0 = torch.tensor([[3.0, 3000.0], [-2.0, -4000.0], [4.0, -2000.0]], dtype=torch.float64)
    route = linearize(model, batch, z0)
    newton, _ = searched(Newton(Undamped(), bfgs=0), route, z0, 60)
    assert (route.at(newton).log_joint < route.at(z0).log_joint - 1).any() or (left(route, newton) > 1).any()
    found, _ = searched(LevenbergMarquardt(diagonal=diagonal), route, z0, 60)
    assert left(route, found).max() < 1e-8
    assert (route.at(found).log_joint > route.at(newton).log_joint - 1e-8).all()


def test_marquardt_scaling_does_not_depend_on_the_units_of_the_latents():
    """The search for z and that for 1000 z are one search with ``U = diag Lam``, and are not with the identity."""
    ends = {}
    for diagonal in (True, False):
        for unit in (1.0, 1000.0):
            torch.manual_seed(0)
            decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6)).double()
            prior = Normal.independent(1.0, unit)
            with torch.no_grad():
                decoder[0].weight[:, 1] /= unit
            model = LatentVariableModel(prior, decoder, Gaussian(6, scale=0.2)).double()
            batch, z0 = batch_of(torch.randn(5, 6, dtype=torch.float64)), points(2, 5)
            scale = torch.tensor([1.0, unit], dtype=torch.float64)
            solver = LevenbergMarquardt(diagonal=diagonal)
            ends[diagonal, unit] = searched(solver, linearize(model, batch, z0), z0 * scale, 3)[0] / scale
    torch.testing.assert_close(ends[True, 1.0], ends[True, 1000.0], atol=1e-8, rtol=1e-8)
    assert (ends[False, 1.0] - ends[False, 1000.0]).abs().max() > 1e-3


def test_gradient_knows_from_the_prior_when_it_is_done():
    """With tolerance, nobody stops who has more to gain, whatever the scale of the prior."""
    for spread in (1e-2, 1.0, 1e2):
        model, batch = smooth_model()
        model.prior = Normal.correlated(3, spread)
        z0 = points()
        route = linearize(model, batch, z0)
        z, seen = searched(Gradient(), route, z0, 3000, tolerance=1e-2)
        assert len(seen) < 3000
        assert left(route, z).max() <= 1e-2


def test_steps_are_those_that_moved_a_datum():
    levels = torch.tensor([[0.0, 5.0, -1.0], [1.0, 5.0, -1.0], [2.0, 5.0, 3.0]], dtype=torch.float64)
    seen = [Record(level, torch.zeros_like(level)) for level in levels]
    nothing, no = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.bool)
    trace = SearchHistory.of(seen, nothing, no, ~no, 0.1)
    assert trace.steps.tolist() == [2, 0, 1]
    assert set(trace.info) == {"log_joint", "grad_norm", "status", "steps", "gained"}
    assert trace.gained.tolist() == [2.0, 0.0, 4.0]
    assert has_changed(levels[:, 1], levels[:, 1] * (1 + 1e-16)).any().item() is False


def test_laplace_counts_the_steps_of_each_datum():
    """One datum begins at its mode, the others need one step."""
    oracle = LinearGaussian()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    with torch.no_grad():
        begin = start(oracle.model, oracle.batch).posterior.center
    oracle.x[0] = oracle.model.decode(begin[:1])[0].detach()
    inference = Laplace(start, 3)
    inference.remember(8, oracle.model.prior)
    inference.modes = torch.where((torch.arange(8) == 0).unsqueeze(-1), oracle.mean(), torch.nan)
    assert inference(oracle.model, oracle.batch).info["steps"].tolist() == [0] + [1] * 7
    assert Laplace(start, 0)(oracle.model, oracle.batch).info["steps"].tolist() == [0] * 8


def test_misuse():
    for wrong, message in (
        (lambda: ConjugateGradient(iterations=0), "iterations must be 1 or more; got 0"),
        (lambda: LevenbergMarquardt(damping=0.0), "damping must be positive; got 0.0"),
        (lambda: LevenbergMarquardt(tries=0), "tries must be 1 or more; got 0"),
        (lambda: Gradient(reach=-1.0), "reach must be positive; got -1.0"),
        (lambda: Newton(bfgs=-1), "bfgs must be 0 or more; got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
