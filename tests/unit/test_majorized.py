"""Search with one information for all data: the bounds, the climb, and that the exact precision is taken once."""

import pytest
import torch
from torch import nn

from curvae import curvature
from curvae.curvature import Layerwise, Majorized, Majorizer, MeanInformation, Newton, Shared, Status, linearize
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Bernoulli, Categorical, Gaussian, HasBound
from curvae.model import LatentVariableModel
from curvae.networks import MLP, ConvDecoder
from curvae.objectives import log_weights
from curvae.priors import StandardNormal
from searches import Undamped, searched
from zoo import LIKELIHOODS, batch_of, data_for, relu_model

BOUNDED = ("bernoulli", "categorical")
KINDS = {"bound": Majorizer(), "typical": MeanInformation()}


def encoder() -> AmortizedGaussian:
    return AmortizedGaussian(nn.Linear(10, 6).double())


def linear_model(name: str, scale: float = 3.0):
    likelihood = LIKELIHOODS[name](10)
    decoder = nn.Linear(3, likelihood.size)
    with torch.no_grad():
        decoder.weight.mul_(scale)
    model = LatentVariableModel(StandardNormal(3), decoder, likelihood).double()
    return model, batch_of(data_for(likelihood, 8))


@pytest.mark.parametrize("steps", [1, 3])
def test_traces_have_the_length_of_the_longest_search(steps):
    """However soon a batch has converged, so that those of several batches are put together."""
    solver = Majorized(KINDS["typical"])
    model, batch = linear_model("gaussian-shared")
    found = Laplace(encoder(), steps, solver, tolerance=1e9)(model, batch)
    assert len(found.info["log_joint"]) == solver.visits(steps) + 1
    assert solver.visits(steps) > steps


@pytest.mark.parametrize("name", BOUNDED)
def test_bound_is_above_the_information_everywhere(name):
    """And touches it: a smaller multiple does not do."""
    likelihood = LIKELIHOODS[name](2)
    assert isinstance(likelihood, HasBound)
    eye = torch.eye(likelihood.size, dtype=torch.float64)
    root = likelihood.bound(eye)
    sharpest = []
    for eta in [torch.zeros(likelihood.size), *(s * torch.randn(likelihood.size) for s in (0.1, 1.0, 5.0, 50.0) * 20)]:
        own = likelihood.root(eta.double().expand_as(eye), eye)
        gap = root @ root.mT - own @ own.mT
        assert torch.linalg.eigvalsh(gap).min() > -1e-12
        sharpest.append(torch.linalg.eigvalsh(0.99 * root @ root.mT - own @ own.mT).min())
    if name == "bernoulli":
        assert min(sharpest) < 0
    x = data_for(likelihood, 1)[0]
    bend = -torch.func.hessian(lambda eta: likelihood.log_prob(x, eta))(torch.randn(likelihood.size).double())
    assert torch.linalg.eigvalsh(root @ root.mT - bend).min() > -1e-12


def test_a_gaussian_with_its_constant_information_needs_no_bound():
    assert not isinstance(Gaussian(3), HasBound)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", BOUNDED)
def test_full_steps_climb_by_what_they_promise(name, masked):
    """No step rule holds them back: within a linear piece, here everywhere, the parabola lies below."""
    model, batch = linear_model(name)
    if masked:
        batch = batch._replace(mask=torch.rand(8, 10) < 0.6)
    route = Shared.of(model, batch, torch.zeros(8, 3).double())
    z = 3 * torch.randn(8, 3, dtype=torch.float64)
    for _ in range(40):
        near = route.at(z).local()
        step = torch.linalg.solve(near.precision, near.grad)
        rise = route.at(z + step).log_joint - near.log_joint
        assert (rise >= 0.5 * (near.grad * step).sum(-1) - 1e-10).all()
        z = z + step
    exact = curvature.local(model, batch, z)
    assert (torch.linalg.eigvalsh(near.precision - exact.precision).min(-1).values > -1e-10).all()


def test_newton_steps_do_not():
    """What the bound is for: where most coins are certain, full Newton steps on this very model fall."""
    model, batch = linear_model("bernoulli", scale=20.0)
    z = 3 * torch.randn(8, 3, dtype=torch.float64)
    _, seen = searched(Newton(Undamped(), bfgs=0), linearize(model, batch, z), z, 12)
    assert (torch.stack([here.log_joint for here in seen]).diff(dim=0) < -1e-6).any()
    _, seen = searched(Majorized(inner=Newton(Undamped(), bfgs=0)), linearize(model, batch, z), z, 12)
    assert (torch.stack([here.log_joint for here in seen]).diff(dim=0) >= -1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_search_never_lowers_the_log_joint(likelihood, kind):
    model, batch = relu_model(likelihood, hidden=(30, 30))
    z = 4 * torch.randn(8, 3, dtype=torch.float64)
    route = linearize(model, batch, z)
    end, seen = searched(Majorized(KINDS[kind]), route, z, 6)
    levels = torch.stack([*(here.log_joint for here in seen), route.at(end).log_joint])
    assert (levels.diff(dim=0) >= -1e-10).all()
    assert (levels[-1] > levels[0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_mode_and_precision_are_those_of_newton(kind):
    model, batch = linear_model("bernoulli")
    start = encoder()
    newton = Laplace(start, 20, tolerance=1e-20)(model, batch)
    found = Laplace(start, 200, Majorized(KINDS[kind]), tolerance=1e-20)(model, batch)
    torch.testing.assert_close(found.posterior.mean, newton.posterior.mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.posterior.precision, newton.posterior.precision, atol=1e-6, rtol=1e-6)


def test_exact_precision_is_taken_once(monkeypatch):
    calls = []
    plain = Layerwise._likelihood
    monkeypatch.setattr(Layerwise, "_likelihood", lambda near: calls.append(near) or plain(near))
    model, batch = relu_model("bernoulli", hidden=(30, 30))
    found = Laplace(encoder(), 4, Majorized())(model, batch)
    assert len(calls) == 1
    near = curvature.local(model, batch, found.posterior.mean)
    torch.testing.assert_close(found.posterior.precision, near.precision, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(found.info["log_joint"][-1], near.log_joint, atol=1e-10, rtol=1e-10)
    assert found.info["log_joint"].shape == (Newton().visits(4) + 1, 8)
    assert (found.info["log_joint"].diff(dim=0) >= -1e-10).all()
    assert (found.info["status"] <= Status.MAX_STEPS).all()


def test_gradient_is_the_unrolled_gradient():
    """At a mode: there a full Newton step does not depend on where it starts, to first order."""
    model, batch = relu_model("bernoulli", hidden=(20, 20))
    model.decoder[2] = model.decoder[4] = nn.LeakyReLU(0.7)  # few modes on kinks
    start = encoder()
    both = (
        Laplace(start, 200, Majorized(inner=Newton(Undamped(), bfgs=4)), tolerance=1e-20),
        Laplace(start, 20, Newton(Undamped()), unroll=True, tolerance=1e-20),
    )
    at_mode = torch.stack([inference(model, batch).info["grad_norm"][-1] < 1e-8 for inference in both]).all(0)
    assert at_mode.sum() >= 3
    batch = batch._replace(x=batch.x[at_mode], index=batch.index[at_mode])
    gradients = []
    for inference in both:
        draws = inference(model, batch).posterior.draw(2, torch.Generator().manual_seed(0))
        gradients.append(torch.autograd.grad(log_weights(model, batch, draws).sum(), list(model.parameters())))
    for value, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)


def test_one_datum_does_not_know_the_others():
    model, batch = relu_model("bernoulli", hidden=(30, 30))
    for kind in KINDS.values():
        inference = Laplace(encoder(), 3, Majorized(kind))
        together = inference(model, batch).posterior.mean
        torch.testing.assert_close(inference(model, batch_of(batch.x[2:3])).posterior.mean, together[2:3])


def test_where_it_does_not_fit_the_inner_solver_searches():
    conv = LatentVariableModel(StandardNormal(3), ConvDecoder(3, (1, 4, 4), 2, 8), Bernoulli((1, 4, 4))).double()
    images = batch_of(torch.rand(4, 1, 4, 4).double().round())
    coded = LatentVariableModel(StandardNormal(3), MLP(3, [8], 12), Categorical(4, 3)).double()
    for model, batch, kind in (
        (*relu_model("gaussian"), Majorizer()),
        (conv, images, Majorizer()),
        (coded, batch_of(data_for(coded.likelihood, 4)), MeanInformation()),
    ):
        z = torch.randn(len(batch.x), 3, dtype=torch.float64)
        route, inner = linearize(model, batch, z), Newton(bfgs=1)
        torch.testing.assert_close(searched(Majorized(kind, inner), route, z, 2)[0], searched(inner, route, z, 2)[0])
