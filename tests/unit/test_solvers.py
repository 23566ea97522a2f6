"""Every solver of the mode search, by one suite, in float64; and what each of them alone promises."""

import pytest
import torch
from torch import nn

from curvae import linalg
from curvae.curvature import (
    ConjugateGradient,
    Generic,
    Gradient,
    Gram,
    Layerwise,
    LevenbergMarquardt,
    Newton,
    Route,
    Status,
    StepRule,
    Trace,
    local,
    moved,
    route_for,
)
from curvae.curvature.matrix_free import MatrixFree
from curvae.curvature.search import Seen
from curvae.inference import AmortizedGaussian, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Bernoulli, Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from zoo import LIKELIHOODS, LinearGaussian, Normal, batch_of, relu_model

SOLVERS = {
    "newton": (Newton(chords=0), 20),
    "newton-chords": (Newton(chords=2), 10),
    "levenberg-marquardt": (LevenbergMarquardt(), 25),
    "levenberg-marquardt-one-try": (LevenbergMarquardt(damping=1e-4, tries=1), 30),
    "levenberg-marquardt-identity": (LevenbergMarquardt(diagonal=False), 25),
    "conjugate-gradient": (ConjugateGradient(), 40),
    "gradient": (Gradient(), 500),
}
"""name -> solver, and the steps that bring it to a mode."""

every = pytest.mark.parametrize(("solver", "steps"), SOLVERS.values(), ids=SOLVERS)


def points(size: int = 3, count: int = 8):
    return torch.randn(count, size, dtype=torch.float64)


def smooth_model(bernoulli: bool = False):
    decoder = MLP(3, [12], 10, nn.Tanh)
    likelihood = Bernoulli(10) if bernoulli else Gaussian(10, scale=0.5)
    model = LatentVariableModel(StandardNormal(3), decoder, likelihood).double()
    with torch.no_grad():
        return model, batch_of(model.sample(8)[0].double())


MODELS = {
    "smooth": smooth_model,
    "smooth-bernoulli": lambda: smooth_model(bernoulli=True),
    "relu": lambda: relu_model("gaussian", hidden=(20, 20)),
}


def left(route, z):
    """Newton decrement, nats."""
    near = route.local(z)
    return 0.5 * (near.grad * torch.linalg.solve(near.precision, near.grad.unsqueeze(-1)).squeeze(-1)).sum(-1)


# ------------------------------------------------------------------------------------------------- all solvers


@every
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_never_lowers_the_log_joint(solver, steps, likelihood):
    model, batch = relu_model(likelihood, hidden=(30, 30))
    z0 = 4 * points()
    route = route_for(model, batch, z0)
    z, seen = solver.search(route, z0, 12)
    levels = torch.stack([*(here.log_joint for here in seen), route.log_joint(z)])
    assert (levels.diff(dim=0) >= -1e-10).all()  # rounding: two routes to one number
    assert (levels[-1] > levels[0]).all()
    assert len(seen) <= solver.visits(12)


@every
def test_reaches_the_mode_of_the_linear_gaussian_model(solver, steps):
    oracle = LinearGaussian()
    z0 = points()
    z, _ = solver.search(route_for(oracle.model, oracle.batch, z0), z0, steps, tolerance=1e-14)
    torch.testing.assert_close(z, oracle.mean(), atol=1e-6, rtol=0)


@every
@pytest.mark.parametrize("name", MODELS)
def test_reaches_a_mode(solver, steps, name):
    """Where the model is smooth; at ridges of a ReLU decoder each search has its own place to stop, so most suffice."""
    model, batch = MODELS[name]()
    z0 = points()
    route = route_for(model, batch, z0)
    z, _ = solver.search(route, z0, steps, tolerance=1e-9)
    if name.startswith("smooth"):
        assert left(route, z).max() < 1e-7
    else:
        best = Newton(chords=2).search(route, z, 60)[0]
        assert (route.log_joint(best) - route.log_joint(z) < 1e-3).float().mean() > 0.5


@every
def test_all_find_one_mode_of_a_smooth_model(solver, steps):
    model, batch = smooth_model()
    route = route_for(model, batch, points())
    mode, _ = Newton(chords=0).search(route, torch.zeros(8, 3, dtype=torch.float64), 60)
    begin = mode + 0.1 * points()
    z, _ = solver.search(route, begin, steps, tolerance=1e-12)
    torch.testing.assert_close(z, mode, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "solver",
    [
        Newton(chords=0),
        Newton(chords=2),
        ConjugateGradient(iterations=3, forcing=0.0),
        LevenbergMarquardt(damping=1e-12),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_newton_steps_are_exact_at_once_on_a_quadratic(solver):
    oracle = LinearGaussian()
    z0 = 5 * points()
    z, _ = solver.search(route_for(oracle.model, oracle.batch, z0), z0, 1)
    torch.testing.assert_close(z, oracle.mean(), atol=1e-9, rtol=0)


@every
def test_a_datum_alone_ends_where_it_does_in_the_batch(solver, steps):
    model, batch = smooth_model()
    z0 = points() * torch.linspace(0.1, 4, 8, dtype=torch.float64).unsqueeze(-1)
    route = route_for(model, batch, z0)
    together, _ = solver.search(route, z0, 6, 1e-3)
    for item in range(8):
        rows = torch.tensor([item])
        alone, _ = solver.search(route.take(rows), z0[rows], 6, 1e-3)
        torch.testing.assert_close(together[rows], alone, atol=1e-9, rtol=1e-9)


@every
def test_what_is_done_is_left_out_and_stays(solver, steps):
    oracle = LinearGaussian()
    z0 = oracle.mean()
    z, seen = solver.search(route_for(oracle.model, oracle.batch, z0), z0, 10, 1e-6)
    assert len(seen) <= solver.visits(1)
    torch.testing.assert_close(z, z0, atol=1e-6, rtol=0)


@every
def test_a_bad_datum_does_not_touch_the_others(solver, steps):
    model, batch = smooth_model()
    z0, keep = points(), torch.arange(8) != 4
    bad = batch._replace(x=batch.x.clone().index_fill_(0, torch.tensor([4]), torch.nan))
    fine, broken = (solver.search(route_for(model, each, z0), z0, 5, 1e-6)[0] for each in (batch, bad))
    torch.testing.assert_close(broken[keep], fine[keep], atol=1e-9, rtol=1e-9)


@every
def test_laplace_takes_any(solver, steps):
    """Exact on the linear-Gaussian model, whatever brought it near; in inference mode as well."""
    oracle = LinearGaussian()
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), 3, solver)
    with torch.inference_mode():
        found = inference(oracle.model, oracle.batch)
    torch.testing.assert_close(found.posterior.mean, oracle.mean(), atol=1e-8, rtol=0)
    assert (found.info["status"] == Status.OK).all()
    assert found.info["log_joint"].shape == (solver.visits(2) + 2, 8)
    assert found.info["steps"].shape == (8,)
    assert (found.info["log_joint"][-1] > found.info["log_joint"][0]).all()
    found = inference(oracle.model, oracle.batch)
    found.posterior.mean.sum().backward()
    assert all(parameter.grad is not None for parameter in oracle.model.parameters())


@every
def test_matrix_free_laplace_takes_any(solver, steps):
    oracle = LinearGaussian()
    inference = MatrixFreeLaplace(AmortizedGaussian(nn.Linear(10, 6).double()), steps, solver, tolerance=1e-8)
    found = inference(oracle.model, oracle.batch)
    torch.testing.assert_close(found.posterior.mean, oracle.mean(), atol=1e-5, rtol=0)
    assert (found.info["status"] == Status.OK).all()


@every
def test_in_float32(solver, steps):
    model = LatentVariableModel(StandardNormal(3), MLP(3, [16], 10), Gaussian(10, scale=0.1))
    batch = batch_of(torch.randn(4, 10))
    z0 = torch.randn(4, 3)
    z, seen = solver.search(route_for(model, batch, z0), z0, 8)
    assert z.dtype == seen[-1].log_joint.dtype == torch.float32
    assert z.isfinite().all()
    assert (model.log_joint(batch.x, z) > model.log_joint(batch.x, z0)).all()


@every
@pytest.mark.parametrize("steps_taken", [1, None])
def test_status_says_whether_it_got_there(solver, steps, steps_taken):
    model, batch = smooth_model()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    inference = MatrixFreeLaplace(start, steps_taken or steps, solver, precondition=False, tolerance=1e-6)
    found = inference(model, batch)
    near = left(route_for(model, batch, found.posterior.mean), found.posterior.mean) <= 1e-6
    assert ((found.info["status"] == Status.OK) == near).all()
    assert near.all() or steps_taken == 1
    assert (found.info["status"] <= Status.MAX_STEPS).all()


@every
@pytest.mark.parametrize("name", MODELS)
def test_without_looking_at_values_the_same_is_found(solver, steps, name, monkeypatch):
    """What a GPU does: all data take all steps, so those that were done early may have moved on, by nothing."""
    model, batch = MODELS[name]()
    z0 = points() * torch.linspace(0.1, 4, 8, dtype=torch.float64).unsqueeze(-1)
    route = route_for(model, batch, z0)
    looking, _ = solver.search(route, z0, 6)
    monkeypatch.setattr(linalg, "may_look", lambda tensor: False)
    z, seen = solver.search(route, z0, 6)
    torch.testing.assert_close(z, looking, atol=1e-7, rtol=1e-7)
    assert len(seen) == solver.visits(6)


# ---------------------------------------------------------------------------------------- the products of a route


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
    one, expected = route.at(model, batch, z), local(model, batch, z, Generic)
    with torch.no_grad():
        point = one.point(z)
        torch.testing.assert_close(point.log_joint, expected.log_joint, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(one.grad_at(point), expected.grad, atol=1e-9, rtol=1e-9)
        product = torch.einsum("bij,bj->bi", expected.precision, v)
        torch.testing.assert_close(one.product_at(point)(v), product, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(Route.likelihood_product(one, point)(v), product - v @ model.prior.matrix)


# ----------------------------------------------------------------------------------------------- each by itself


def test_conjugate_gradients_with_enough_iterations_are_newton():
    model, batch = smooth_model()
    z0 = points()
    route = route_for(model, batch, z0)
    exact, _ = Newton(chords=0).search(route, z0, 6)
    found, _ = ConjugateGradient(iterations=20, forcing=1e-14).search(route, z0, 6)
    torch.testing.assert_close(found, exact, atol=1e-10, rtol=1e-10)


def test_conjugate_gradients_never_go_down_where_the_precision_is_not_positive(monkeypatch):
    """It always is; were it not, the iterations would end there, and what was found until then is the step."""
    model, batch = smooth_model()
    z0 = points()
    route = route_for(model, batch, z0)
    signs = torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64)
    monkeypatch.setattr(type(route), "product_at", lambda self, point: lambda v: signs * v)
    z, seen = ConjugateGradient().search(route, z0, 20)
    levels = torch.stack([*(here.log_joint for here in seen), route.log_joint(z)])
    assert (levels.diff(dim=0) >= -1e-10).all()
    assert (levels[-1] > levels[0]).any()
    monkeypatch.setattr(type(route), "product_at", lambda self, point: lambda v: -v)
    torch.testing.assert_close(ConjugateGradient().search(route, z0, 3)[0], z0)


def test_gradient_steps_lead_along_the_gradient():
    model, batch = smooth_model()
    z0 = points()
    route = route_for(model, batch, z0)
    step = Gradient(reach=1e-3).search(route, z0, 1)[0] - z0
    grad = route.slope(z0)[1]
    torch.testing.assert_close(step, 1e-3 * grad / grad.norm(dim=-1, keepdim=True))


def test_conjugate_gradients_form_no_precision(monkeypatch):
    model, batch = relu_model("gaussian")
    z0 = points()
    route = route_for(model, batch, z0)
    monkeypatch.setattr(Gram, "likelihood_part", lambda *_: pytest.fail("formed"))
    monkeypatch.setattr(Gram, "likelihood_residual", lambda *_: pytest.fail("linearized again"))
    ConjugateGradient().search(route, z0, 3)


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
        route.log_joint(solver.search(route, z0, 2)[0])
        for route in (MatrixFree(model, batch), MatrixFree(model, batch, variance))
    )
    assert (helped > plain).all()


class Undamped(StepRule):
    def advance(self, t, route, here, grad, direction):
        return route.point(here.z + direction), torch.ones_like(here.log_joint)


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
    route = route_for(model, batch, z0)
    newton, _ = Newton(Undamped(), chords=0).search(route, z0, 60)
    assert (route.log_joint(newton) < route.log_joint(z0) - 1).any() or (left(route, newton) > 1).any()
    found, _ = LevenbergMarquardt(diagonal=diagonal).search(route, z0, 60)
    assert left(route, found).max() < 1e-8
    assert (route.log_joint(found) > route.log_joint(newton) - 1e-8).all()


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
            ends[diagonal, unit] = solver.search(route_for(model, batch, z0), z0 * scale, 3)[0] / scale
    torch.testing.assert_close(ends[True, 1.0], ends[True, 1000.0], atol=1e-8, rtol=1e-8)
    assert (ends[False, 1.0] - ends[False, 1000.0]).abs().max() > 1e-3


def test_gradient_knows_from_the_prior_when_it_is_done():
    """With tolerance, nobody stops who has more to gain, whatever the scale of the prior."""
    for spread in (1e-2, 1.0, 1e2):
        model, batch = smooth_model()
        model.prior = Normal.correlated(3, spread)
        z0 = points()
        route = route_for(model, batch, z0)
        z, seen = Gradient().search(route, z0, 3000, tolerance=1e-2)
        assert len(seen) < 3000
        assert left(route, z).max() <= 1e-2


# ------------------------------------------------------------------------------------------------------- the trace


def test_steps_are_those_that_moved_a_datum():
    levels = torch.tensor([[0.0, 5.0, -1.0], [1.0, 5.0, -1.0], [2.0, 5.0, 3.0]], dtype=torch.float64)
    seen = [Seen(level, torch.zeros_like(level)) for level in levels]
    nothing, no = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.bool)
    trace = Trace.of(seen, nothing, no, ~no, 0.1)
    assert trace.steps.tolist() == [2, 0, 1]
    assert set(trace.info) == {"log_joint", "grad_norm", "status", "steps", "gained"}
    assert trace.gained.tolist() == [2.0, 0.0, 4.0]
    assert moved(levels[:, 1], levels[:, 1] * (1 + 1e-16)).any().item() is False


def test_laplace_counts_the_steps_of_each_datum():
    """One datum begins at its mode, the others need one step."""
    oracle = LinearGaussian()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    with torch.no_grad():
        begin = start(oracle.model, oracle.batch).posterior.center
    oracle.x[0] = oracle.model.decode(begin[:1])[0].detach()
    inference = Laplace(start, 3)
    inference.remember(8, 3)
    inference.modes = torch.where((torch.arange(8) == 0).unsqueeze(-1), oracle.mean(), torch.nan)
    assert inference(oracle.model, oracle.batch).info["steps"].tolist() == [0] + [1] * 7
    assert Laplace(start, 0)(oracle.model, oracle.batch).info["steps"].tolist() == [0] * 8


def test_misuse():
    for wrong, message in (
        (lambda: ConjugateGradient(iterations=0), "iterations must be 1 or more; got 0"),
        (lambda: LevenbergMarquardt(damping=0.0), "damping must be positive; got 0.0"),
        (lambda: LevenbergMarquardt(tries=0), "tries must be 1 or more; got 0"),
        (lambda: Gradient(reach=-1.0), "reach must be positive; got -1.0"),
        (lambda: Newton(chords=-1), "chords must be 0 or more; got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
