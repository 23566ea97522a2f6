"""The search for the mode by Newton's method, and the gradient through it."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from curvae.curvature import Backtracking, Generic, Layerwise, Newton, PaperSchedule, Status, linearize, take_rows
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import elbo, log_weights
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from searches import Undamped, searched
from zoo import LIKELIHOODS, LinearGaussian, TwoModes, batch_of, data_for, points, relu_model

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def test_published_schedule_leaves_its_share_of_the_error():
    """On a linear decoder prod_t (1 - 0.5 / (t + 1)) = C(2T, T) / 4^T of the initial error is left: 27 % at T = 4."""
    oracle = LinearGaussian()
    z0 = points()
    for steps, left in ((1, 0.5), (2, 0.375), (4, 0.2734375), (8, math.comb(16, 8) / 4**8)):
        z, _ = searched(Newton(PaperSchedule(), bfgs=0), linearize(oracle.model, oracle.batch, z0), z0, steps)
        torch.testing.assert_close(z - oracle.mean(), left * (z0 - oracle.mean()), **CLOSE)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_backtracking_never_lowers_the_log_joint(likelihood):
    model, batch = relu_model(likelihood, hidden=(30, 30))
    z0 = 4 * points()
    route = linearize(model, batch, z0)
    z, visited = searched(Newton(bfgs=0), route, z0, 12)
    levels = torch.stack([*(here.log_joint for here in visited), route.at(z).log_joint])
    assert (levels.diff(dim=0) >= -1e-10).all()  # rounding: two routes to one number
    assert (levels[-1] > levels[0]).all()


@pytest.mark.parametrize(
    ("rule", "times", "length", "good"),
    [
        (Backtracking(), 1.0, 1.0, True),
        (Backtracking(), 4.0, 0.25, True),
        (Backtracking(), 10.0, 0.1, True),
        (Backtracking(), 100.0, 0.05, False),
        (Backtracking(sufficient=0.4), 1.5, 0.5, True),
        (Backtracking(shortest=0.3), 4.0, 0.3, True),
        (Backtracking(worth=1e9), 4.0, 1.0, False),
        (Backtracking(), torch.inf, 0.05, False),
    ],
)
def test_the_shorter_step_goes_to_the_top_of_the_parabola(rule, times, length, good):
    """Along so many times the Newton step d of a quadratic it is at 1 / times, within [shortest, 1/2]."""
    oracle = LinearGaussian()
    z0 = points()
    route = linearize(oracle.model, oracle.batch, z0, Generic)
    here, grad, d = route.at(z0), route.at(z0).grad(), oracle.mean() - z0
    tried = rule.advance(0, here, grad, times * d)
    torch.testing.assert_close(tried.length, torch.full((8,), length, dtype=torch.float64), **CLOSE)
    assert (tried.good == good).all()
    torch.testing.assert_close(tried.there.z, z0 + length * times * d, **CLOSE)


def test_full_newton_steps_can_lower_it():
    """What backtracking is for: on this model undamped steps do overshoot."""
    torch.manual_seed(3)
    model, batch = relu_model("gaussian", hidden=(30, 30))
    z0 = 4 * points()
    _, visited = searched(Newton(Undamped(), bfgs=0), linearize(model, batch, z0), z0, 12)
    assert (torch.stack([here.log_joint for here in visited]).diff(dim=0) < -1e-6).any()


def test_quasi_newton_steps_only_climb_and_are_worth_more_than_they_cost():
    model, batch = relu_model("gaussian", hidden=(30, 30))
    z0 = 2 * points()
    route = linearize(model, batch, z0)
    plain, followed = (searched(Newton(bfgs=steps), route, z0, 2) for steps in (0, 3))
    levels = torch.stack([*(seen.log_joint for seen in followed[1]), route.at(followed[0]).log_joint])
    assert (levels.diff(dim=0) >= -1e-10).all()
    assert route.at(followed[0]).log_joint.mean() > route.at(plain[0]).log_joint.mean()


def test_data_that_are_done_are_left_out_and_stay_where_they_are():
    """Half of the data start at their mode: the others end where they would by themselves."""
    model, batch = relu_model("gaussian", hidden=(30, 30))
    z0 = points()
    route = linearize(model, batch, z0)
    mode, _ = searched(Newton(bfgs=0), route, z0, 60)
    start = torch.where((torch.arange(8) < 4).unsqueeze(-1), mode, z0)
    together, _ = searched(Newton(bfgs=1), route, start, 3, tolerance=1e-6)
    for rows in (torch.arange(4, 8), torch.arange(4)):
        alone, _ = searched(Newton(bfgs=1), route.take(rows), start[rows], 3, tolerance=1e-6)
        torch.testing.assert_close(together[rows], alone, atol=1e-9, rtol=1e-9)


def test_search_stops_early_when_nothing_is_to_be_gained():
    oracle = LinearGaussian()
    z0 = points()
    _, visited = searched(Newton(bfgs=0), linearize(oracle.model, oracle.batch, z0), z0, 10, tolerance=1e-9)
    assert len(visited) == 2


def test_laplace_reports_every_step_and_how_it_ended():
    model, batch = relu_model("gaussian")
    info = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), steps=3)(model, batch).info
    assert info["log_joint"].shape == info["grad_norm"].shape == (2 * (1 + 8) + 2, 8)
    assert (info["log_joint"].diff(dim=0) >= -1e-12).all()
    assert info["status"].shape == (8,)


def test_status_names_what_happened():
    oracle = LinearGaussian()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    exact = Laplace(start, steps=1)(oracle.model, oracle.batch).info["status"]
    damped = Laplace(start, 1, Newton(PaperSchedule()))(oracle.model, oracle.batch).info["status"]
    broken = oracle.batch._replace(x=oracle.x.clone().index_fill_(0, torch.tensor([0]), torch.inf))
    nonfinite = Laplace(start, steps=1)(oracle.model, broken).info["status"]
    assert (exact == Status.OK).all()
    assert (damped == Status.MAX_STEPS).all()
    assert nonfinite[0] == Status.NONFINITE
    assert (nonfinite[1:] == Status.OK).all()


def test_one_bad_datum_does_not_touch_the_others():
    model, batch = relu_model("gaussian")
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()))
    good = inference(model, batch).posterior.mean
    bad = batch._replace(x=batch.x.clone().index_fill_(0, torch.tensor([4]), torch.nan))
    mean = inference(model, bad).posterior.mean
    keep = torch.arange(8) != 4
    torch.testing.assert_close(mean[keep], good[keep])


def test_two_modes_both_are_found():
    oracle = TwoModes()
    route = linearize(oracle.model, oracle.batch, torch.ones(3, 1, dtype=torch.float64))
    for side in (-1.0, 1.0):
        z, _ = searched(Newton(bfgs=0), route, torch.full((3, 1), 2 * side, dtype=torch.float64), 40)
        assert route.at(z).local().grad.abs().max() < 1e-6
        assert (z[1:].sign() == side).all()


def _surrogate_gradient(inference, model, batch):
    torch.manual_seed(5)
    found = inference(model, batch)
    log_w = log_weights(model, batch, found.posterior.draw(2))
    return torch.autograd.grad(log_w.sum(), list(model.parameters()))


def test_last_step_gradient_is_the_unrolled_gradient():
    """Gaussian output, ReLU, undamped: the Newton target does not depend on where it starts within a linear region.

    By the route that takes Lam at the end: the Gram route takes that of the region where the last step begins. Of data
    where both end at one point: an undamped search that goes round a kink is stopped, the unrolled one is not.
    """
    model, batch = relu_model("gaussian-shared", hidden=(20, 20))
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    for steps in (1, 4):
        single = Laplace(start, steps, Newton(Undamped(), bfgs=0), route=Layerwise)
        every = Laplace(start, steps, Newton(Undamped()), unroll=True, route=Layerwise)
        one, other = (method(model, batch).posterior.mean for method in (single, every))
        (same,) = torch.where((one - other).abs().amax(1) < 1e-9)
        assert len(same) >= 6
        last, unrolled = (_surrogate_gradient(method, model, take_rows(batch, same)) for method in (single, every))
        for value, expected in zip(last, unrolled, strict=True):
            torch.testing.assert_close(value, expected, atol=1e-9, rtol=1e-9)


def test_detaching_the_mode_would_be_another_gradient():
    model, batch = relu_model("gaussian-shared", hidden=(20, 20))
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    exact = _surrogate_gradient(Laplace(start, 4), model, batch)

    class Detached(Laplace):
        def _searched(self, begin, steps):
            found = super()._searched(begin, steps)
            return found._replace(mean=found.mean.detach())

    other = _surrogate_gradient(Detached(start, 4), model, batch)
    assert any(
        (value - wrong).abs().max() > 1e-3 * value.abs().max() for value, wrong in zip(exact, other, strict=True)
    )


def test_a_constant_posterior_gives_the_gradient_of_the_log_likelihood():
    """Fisher's identity on the linear-Gaussian model, with its exact posterior; sigma points take the expectation."""
    oracle = LinearGaussian()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    held, free = (Laplace(start, 2, constant=constant)(oracle.model, oracle.batch) for constant in (True, False))
    torch.testing.assert_close(held.posterior.mean, free.posterior.mean, **CLOSE)
    torch.testing.assert_close(held.posterior.covariance, free.posterior.covariance, **CLOSE)
    torch.testing.assert_close(held.encoder_bound, free.encoder_bound, **CLOSE)
    assert free.posterior.mean.requires_grad
    assert not held.posterior.mean.requires_grad
    size = held.posterior.mean.shape[-1]
    spread = size**0.5 * torch.linalg.cholesky(held.posterior.covariance).movedim(-1, 0)
    z = torch.cat([held.posterior.mean + spread, held.posterior.mean - spread])
    decoder, noise = oracle.model.decoder, oracle.scale**2 * torch.eye(oracle.x.shape[1]).double()
    exact = MultivariateNormal(decoder.bias, decoder.weight @ decoder.weight.mT + noise).log_prob(oracle.x)
    parameters = [decoder.weight, decoder.bias]
    ours = torch.autograd.grad(oracle.model.log_joint(oracle.x, z).sum(-1).mean(), parameters)
    for value, expected in zip(ours, torch.autograd.grad(exact.sum(), parameters), strict=True):
        torch.testing.assert_close(value, expected, **CLOSE)


def test_a_constant_posterior_trains_decoder_and_encoder():
    model, batch = relu_model("gaussian-shared", hidden=(20, 20))
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), constant=True)
    system = LatentSystem(model, inference, elbo).train()
    (-system.bound(batch).surrogate.mean()).backward()
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in model.parameters())
    means = inference.start.encoder.weight.grad[:3]
    assert means.abs().max() > 0


def test_gradient_of_the_mode_is_that_of_the_implicit_function():
    """d mu / d theta by finite differences of a converged search, for the data whose mode is not on a kink."""
    model, batch = relu_model("bernoulli")
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), steps=30, tolerance=1e-14)
    bias, step, ends = model.decoder[-1].bias, 1e-4, {}
    for unit in (0, 3):
        for sign in (1, -1):
            with torch.no_grad():
                bias[unit] += sign * step
                ends[unit, sign] = inference(model, batch)
                bias[unit] -= sign * step
    smooth = torch.stack([end.info["grad_norm"][-1] < 5e-9 for end in ends.values()]).all(0)
    assert smooth.any()
    (gradient,) = torch.autograd.grad(inference(model, batch).posterior.mean[smooth].sum(), bias)
    for unit in (0, 3):
        above, below = (ends[unit, sign].posterior.mean[smooth].sum() for sign in (1, -1))
        torch.testing.assert_close(gradient[unit], (above - below) / (2 * step), atol=1e-4, rtol=0)


def test_encoder_bound_is_the_log_joint_missed():
    """On the linear-Gaussian model -1/2 (mu0 - mu)' Lam (mu0 - mu) = log p(x, mu0) - log p(x, mu)."""
    oracle = LinearGaussian()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    mu0 = start(oracle.model, oracle.batch).posterior.center
    found = Laplace(start, steps=1)(oracle.model, oracle.batch)
    missed = oracle.model.log_joint(oracle.x, mu0) - oracle.model.log_joint(oracle.x, found.posterior.mean)
    torch.testing.assert_close(found.encoder_bound, missed, **CLOSE)
    encoder = torch.autograd.grad(found.encoder_bound.sum(), start.encoder.weight, retain_graph=True)[0]
    assert encoder.abs().max() > 0
    reached = torch.autograd.grad(found.encoder_bound.sum(), list(oracle.model.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in reached)


def test_published_gradient_reaches_the_encoder_through_the_damping():
    """d mu_T / d mu_0 = C(2T, T) / 4^T within a linear region."""
    oracle = LinearGaussian()
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    found = Laplace(start, 4, Newton(PaperSchedule()), unroll=True)(oracle.model, oracle.batch)
    assert found.encoder_bound is None
    here = torch.autograd.grad(found.posterior.mean.sum(), start.encoder.bias)[0][:3]
    torch.testing.assert_close(here, torch.full_like(here, 8 * 0.2734375), **CLOSE)


def test_float32_and_autocast_keep_the_algebra_in_float32():
    model = LatentVariableModel(StandardNormal(3), MLP(3, [16], 10), Gaussian(10))
    inference = Laplace(AmortizedGaussian(MLP(10, [16], 6)))
    batch = batch_of(torch.randn(4, 10))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = inference(model, batch).posterior
    assert posterior.loc.dtype == posterior.factor.dtype == torch.float32


def test_misuse():
    with pytest.raises(ValueError, match="must be 0 or more; got -1"):
        Laplace(AmortizedGaussian(nn.Linear(10, 6)), steps=-1)
    with pytest.raises(ValueError, match="choose one of them"):
        Laplace(AmortizedGaussian(nn.Linear(10, 6)), unroll=True, constant=True)
    model, batch = relu_model("gaussian")
    with pytest.raises(ValueError, match="must give 2 D values"):
        AmortizedGaussian(nn.Linear(10, 7).double())(model, batch)
    assert data_for(model.likelihood, 2).shape == (2, 10)
