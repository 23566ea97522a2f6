"""Every solver of the mode search, by one suite, in float64."""

import pytest
import torch
from torch import nn

from curvae import linalg
from curvae.curvature import (
    ConjugateGradient,
    Gradient,
    LevenbergMarquardt,
    Newton,
    Status,
    linearize,
)
from curvae.inference import AmortizedGaussian, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from searches import beside_a_ridge, left, searched, smooth_model
from zoo import LIKELIHOODS, LinearGaussian, batch_of, points, relu_model

SOLVERS = {
    "newton": (Newton(bfgs=0), 20),
    "newton-bfgs": (Newton(bfgs=3), 10),
    "levenberg-marquardt": (LevenbergMarquardt(), 25),
    "levenberg-marquardt-one-try": (LevenbergMarquardt(damping=1e-4, tries=1), 30),
    "levenberg-marquardt-identity": (LevenbergMarquardt(diagonal=False), 25),
    "conjugate-gradient": (ConjugateGradient(), 40),
    "gradient": (Gradient(), 500),
}
"""name -> solver, and the steps that bring it to a mode."""

every = pytest.mark.parametrize(("solver", "steps"), SOLVERS.values(), ids=SOLVERS)


MODELS = {
    "smooth": smooth_model,
    "smooth-bernoulli": lambda: smooth_model(bernoulli=True),
    "relu": lambda: relu_model("gaussian", hidden=(20, 20)),
}


@every
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_never_lowers_the_log_joint(solver, steps, likelihood):
    model, batch = relu_model(likelihood, hidden=(30, 30))
    z0 = 4 * points()
    route = linearize(model, batch, z0)
    z, seen = searched(solver, route, z0, 12)
    levels = torch.stack([*(here.log_joint for here in seen), route.at(z).log_joint])
    assert (levels.diff(dim=0) >= -1e-10).all()  # rounding: two routes to one number
    assert (levels[-1] > levels[0]).all()
    assert len(seen) <= solver.visits(12)


@every
def test_reaches_the_mode_of_the_linear_gaussian_model(solver, steps):
    oracle = LinearGaussian()
    z0 = points()
    z, _ = searched(solver, linearize(oracle.model, oracle.batch, z0), z0, steps, tolerance=1e-14)
    torch.testing.assert_close(z, oracle.mean(), atol=1e-6, rtol=0)


@every
@pytest.mark.parametrize("name", MODELS)
def test_reaches_a_mode(solver, steps, name):
    """Where the model is smooth; at ridges of a ReLU decoder most end where plain Newton steps gain no more either."""
    model, batch = MODELS[name]()
    z0 = points()
    route = linearize(model, batch, z0)
    z, _ = searched(solver, route, z0, steps, tolerance=1e-9)
    if name.startswith("smooth"):
        assert left(route, z).max() < 1e-7
    else:
        further = searched(Newton(bfgs=0), route, z, 60)[0]
        assert (route.at(further).log_joint - route.at(z).log_joint < 1e-3).float().mean() > 0.5


def test_steps_that_learn_from_those_in_vain_walk_on_along_ridges():
    """Every other search stops at one, nowhere near the mode; from there on these steps lead to it."""
    model, batch, z0, mode = beside_a_ridge()
    route = linearize(model, batch, z0)
    for solver, steps in SOLVERS.values():
        if solver != Newton(bfgs=3):
            stuck, _ = searched(solver, route, z0, steps, tolerance=1e-9)
            assert (route.at(mode).log_joint - route.at(stuck).log_joint > 100).all()
            torch.testing.assert_close(searched(Newton(), route, stuck, 4)[0], mode, atol=0.02, rtol=0)


@every
def test_all_find_one_mode_of_a_smooth_model(solver, steps):
    model, batch = smooth_model()
    route = linearize(model, batch, points())
    mode, _ = searched(Newton(bfgs=0), route, torch.zeros(8, 3, dtype=torch.float64), 60)
    begin = mode + 0.1 * points()
    z, _ = searched(solver, route, begin, steps, tolerance=1e-12)
    torch.testing.assert_close(z, mode, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "solver",
    [
        Newton(bfgs=0),
        Newton(bfgs=2),
        ConjugateGradient(iterations=3, forcing=0.0),
        LevenbergMarquardt(damping=1e-12),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_newton_steps_are_exact_at_once_on_a_quadratic(solver):
    oracle = LinearGaussian()
    z0 = 5 * points()
    z, _ = searched(solver, linearize(oracle.model, oracle.batch, z0), z0, 1)
    torch.testing.assert_close(z, oracle.mean(), atol=1e-9, rtol=0)


@every
def test_a_datum_alone_ends_where_it_does_in_the_batch(solver, steps):
    model, batch = smooth_model()
    z0 = points() * torch.linspace(0.1, 4, 8, dtype=torch.float64).unsqueeze(-1)
    route = linearize(model, batch, z0)
    together, _ = searched(solver, route, z0, 6, 1e-3)
    for item in range(8):
        rows = torch.tensor([item])
        alone, _ = searched(solver, route.take(rows), z0[rows], 6, 1e-3)
        torch.testing.assert_close(together[rows], alone, atol=1e-9, rtol=1e-9)


@every
def test_what_is_done_is_left_out_and_stays(solver, steps):
    oracle = LinearGaussian()
    z0 = oracle.mean()
    z, seen = searched(solver, linearize(oracle.model, oracle.batch, z0), z0, 10, 1e-6)
    assert len(seen) <= solver.visits(1)
    torch.testing.assert_close(z, z0, atol=1e-6, rtol=0)


@every
def test_a_bad_datum_does_not_touch_the_others(solver, steps):
    model, batch = smooth_model()
    z0, keep = points(), torch.arange(8) != 4
    bad = batch._replace(x=batch.x.clone().index_fill_(0, torch.tensor([4]), torch.nan))
    fine, broken = (searched(solver, linearize(model, each, z0), z0, 5, 1e-6)[0] for each in (batch, bad))
    torch.testing.assert_close(broken[keep], fine[keep], atol=1e-9, rtol=1e-9)


@every
def test_laplace_takes_any(solver, steps):
    """On the linear-Gaussian model as exact as its log joint can show, whatever brought it near; in inference mode too.

    A step is taken where it raises the log joint, so what is left to gain may be rounding, and no more.
    """
    oracle = LinearGaussian()
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), 3, solver)
    with torch.inference_mode():
        found = inference(oracle.model, oracle.batch)
    off = found.posterior.mean - oracle.mean()
    missed = 0.5 * torch.einsum("bi,ij,bj->b", off, oracle.precision(), off)
    log_joint = found.info["log_joint"]
    assert (missed <= 16 * torch.finfo(missed.dtype).eps * log_joint[-1].abs().clamp(min=1)).all()
    assert (found.info["status"] == Status.OK).all()
    assert log_joint.shape == (solver.visits(2) + 2, 8)
    assert found.info["steps"].shape == (8,)
    assert (log_joint[-1] > log_joint[0]).all()
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
    z, seen = searched(solver, linearize(model, batch, z0), z0, 8)
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
    near = left(linearize(model, batch, found.posterior.mean), found.posterior.mean) <= 1e-6
    assert ((found.info["status"] == Status.OK) == near).all()
    assert near.all() or steps_taken == 1
    assert (found.info["status"] <= Status.MAX_STEPS).all()


@every
@pytest.mark.parametrize("name", MODELS)
def test_without_looking_at_values_the_same_is_found(solver, steps, name, monkeypatch):
    """What a GPU does: all data take all steps, so those that were done early may have moved on, by nothing."""
    model, batch = MODELS[name]()
    z0 = points() * torch.linspace(0.1, 4, 8, dtype=torch.float64).unsqueeze(-1)
    route = linearize(model, batch, z0)
    looking, _ = searched(solver, route, z0, 6)
    monkeypatch.setattr(linalg, "can_sync", lambda tensor: False)
    z, seen = searched(solver, route, z0, 6)
    torch.testing.assert_close(z, looking, atol=1e-7, rtol=1e-7)
    assert len(seen) == solver.visits(6)
