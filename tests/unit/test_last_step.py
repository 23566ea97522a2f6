"""The last step: what it gives, and its gradient by hand against autograd."""

import os
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from curvae.curvature import (
    Backtracking,
    Generic,
    Gram,
    Layerwise,
    Newton,
    PaperSchedule,
    last_step,
    linearize,
    local,
    native,
)
from curvae.curvature.solvers import compiled_newton
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from fuzz import examples
from searches import Undamped, searched
from zoo import batch_of, points, relu_model

NEEDS_COMPILER = pytest.mark.skipif(not native.available(), reason="no C compiler here")


def problem(latent=3, hidden=(20, 31), data=30, scale=0.3):
    """A model with a learned variance, a batch, and points near and far from the modes."""
    outputs = max(hidden) + 5
    likelihood = Gaussian(outputs, scale=scale, learn="shared")
    model = LatentVariableModel(StandardNormal(latent), MLP(latent, list(hidden), outputs), likelihood).double()
    x = model.sample(data)[0].detach().double() if data else torch.zeros(0, outputs).double()
    return model, batch_of(x), 2 * torch.randn(data, latent).double()


def gradients(model, batch, z):
    """What the last step gives, and the gradient of a random combination of its mean and factor."""
    mode = last_step(linearize(model, batch, z), 0, Backtracking())
    weigh = torch.Generator().manual_seed(1)
    shares = [torch.randn(one.shape, generator=weigh).double() for one in (mode.mean, mode.factor)]
    total = (shares[0] * mode.mean).sum() + (shares[1] * mode.factor).sum()
    return mode, slopes(total, list(model.parameters()))


def compare(model, batch, z) -> None:
    """The compiled step and its gradient with those of torch."""
    ours, gradient = gradients(model, batch, z)
    assert compiled_newton.compiled_last_step(linearize(model, batch, z), Backtracking(), True) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURVAE_KERNEL", "0")
        theirs, expected = gradients(model, batch, z)
    for name, tolerance in (("mean", 1e-8), ("precision", 1e-8), ("factor", 1e-8), ("left", 1e-6)):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=tolerance, atol=tolerance)
    for name in ("stuck", "ok"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    for one, other in zip(ours.seen, theirs.seen, strict=True):
        torch.testing.assert_close(tuple(one), tuple(other), rtol=1e-8, atol=1e-7)
    for value, other in zip(gradient, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-8, atol=1e-8 * (1 + float(other.abs().sum())))


def slopes(total, parameters):
    """By autograd, zeros for what does not matter."""
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return [torch.zeros_like(one) if slope is None else slope for one, slope in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("name", ["gaussian-shared", "bernoulli", "categorical"])
def test_its_gradient_is_that_of_a_newton_step_written_out(name):
    """The mean by autograd through the solve, Lam and its factor at that mean: full steps, so no step is held back."""
    model, batch = relu_model(name, hidden=(9, 8))
    z, parameters = points(), list(model.parameters())
    mode = last_step(linearize(model, batch, z), 0, Undamped())
    here = local(model, batch, z, Generic)
    mean = z + torch.linalg.solve(here.precision, here.grad.unsqueeze(-1)).squeeze(-1)
    factor = torch.linalg.cholesky(
        here.precision if name.startswith("gaussian") else local(model, batch, mean, Generic).precision
    )
    shares = torch.randn_like(mean), torch.randn_like(factor)
    found, expected = (
        slopes((shares[0] * one).sum() + (shares[1] * other).sum(), parameters)
        for one, other in ((mode.mean, mode.factor), (mean, factor))
    )
    torch.testing.assert_close((mode.mean, mode.factor), (mean, factor), rtol=1e-9, atol=1e-9)
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-8, atol=1e-8)


@NEEDS_COMPILER
@settings(max_examples=examples(60), deadline=None)
@given(
    latent=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    data=st.integers(0, 101),
    scale=st.sampled_from([0.05, 0.3, 2.0]),
    seed=st.integers(0, 1000),
)
def test_the_last_step_and_its_gradient_are_those_of_torch(latent, hidden, data, scale, seed) -> None:
    torch.manual_seed(seed)
    compare(*problem(latent, hidden, data, scale))


@NEEDS_COMPILER
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx"])
@pytest.mark.parametrize(("latent", "hidden"), [(3, (20, 31)), (21, (50, 9, 34))])
def test_so_they_are_on_processors_with_shorter_vectors(without, latent, hidden, monkeypatch) -> None:
    monkeypatch.setenv("CC", f"{os.environ.get('CC') or 'cc'} {without}")
    if not native.available():
        pytest.skip(f"this compiler does not know {without}")
    torch.manual_seed(0)
    model, batch, z = problem(latent, hidden)
    compare(model, batch, z)
    route = linearize(model, batch, z)
    found = route.at(searched(Newton(), route, z, 1, 0.0)[0]).log_joint
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    torch.testing.assert_close(found, route.at(searched(Newton(), route, z, 1, 0.0)[0]).log_joint)


@NEEDS_COMPILER
def test_its_gradient_is_that_of_finite_differences() -> None:
    """Of the full step and of the factor at a fixed z, within a linear piece."""
    torch.manual_seed(0)
    model, batch, z = problem(3, (12, 9), 4)

    def combined():
        mode = last_step(linearize(model, batch, z), 0, Backtracking(shortest=1.0))
        return mode, (mode.mean.sin().sum() + (mode.factor.tril() * torch.arange(3.0).double()).sum())

    mode, value = combined()
    full = ~mode.stuck
    assert full.all(), "the gradient of a step that was not taken is that of the full one"
    for parameter, gradient in zip(
        model.parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True
    ):
        at = int(gradient.abs().argmax())
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[at] += sign * 1e-6
                ends.append(combined()[1])
                parameter.view(-1)[at] -= sign * 1e-6
        torch.testing.assert_close(gradient.view(-1)[at], (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-5)


@NEEDS_COMPILER
def test_a_layer_without_bias_frozen_weights_and_only_one_adjoint(monkeypatch) -> None:
    torch.manual_seed(0)
    model, batch, z = problem(4, (16, 32), 20)
    next(layer for layer in model.decoder.modules() if isinstance(layer, nn.Linear)).bias = None
    assert len(list(model.parameters())) == 6
    model.decoder[-1].weight.requires_grad_(False)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for switch in ("1", "0"):
        monkeypatch.setenv("CURVAE_KERNEL", switch)
        for part in ("mean", "factor"):
            mode = last_step(linearize(model, batch, z), 0, Backtracking())
            found.append(slopes(getattr(mode, part).square().sum(), wanted))
    for ours, theirs in zip(found[:2], found[2:], strict=True):
        for value, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(value, other)


@NEEDS_COMPILER
def test_a_backward_pass_without_the_code_says_so(monkeypatch) -> None:
    model, batch, z = problem()
    mode = last_step(linearize(model, batch, z), 0, Backtracking())
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    with pytest.raises(RuntimeError, match="CURVAE_KERNEL has changed"):
        mode.mean.sum().backward()


@NEEDS_COMPILER
def test_without_gradients_nothing_is_kept() -> None:
    model, batch, z = problem()
    with torch.no_grad():
        mode = last_step(linearize(model, batch, z), 0, Backtracking())
    assert mode.mean.grad_fn is None
    assert mode.factor.grad_fn is None
    assert last_step(linearize(model, batch, z), 0, Backtracking()).mean.grad_fn is not None


@NEEDS_COMPILER
def test_threads_change_no_more_than_the_order_of_sums() -> None:
    model, batch, z = problem(4, (20, 20), 90)
    alone, gradient = gradients(model, batch, z)
    torch.set_num_threads(3)
    try:
        shared, other = gradients(model, batch, z)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone.mean, shared.mean)
    assert torch.equal(alone.factor, shared.factor)
    for one, two in zip(gradient, other, strict=True):
        torch.testing.assert_close(one, two)


@NEEDS_COMPILER
def test_it_says_who_is_stuck_on_a_kink(monkeypatch) -> None:
    torch.manual_seed(0)
    model, batch, z = problem(4, (30, 30), 200, scale=0.05)
    route = linearize(model, batch, z)
    end = searched(Newton(), route, z, 30)[0]
    end[::2] = z[::2]
    ours = last_step(route.at(end), 0, Backtracking())
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    theirs = last_step(route.at(end), 0, Backtracking())
    kink = theirs.left > 1e-3  # at a smooth mode rounding decides
    assert kink.any()
    assert not ours.stuck.all()
    assert torch.equal(ours.stuck[kink], theirs.stuck[kink])
    torch.testing.assert_close(ours.mean[kink], theirs.mean[kink])


@NEEDS_COMPILER
@pytest.mark.parametrize("level", [-100.0, torch.inf, torch.nan])
def test_where_a_precision_has_no_factor_torch_takes_over(level) -> None:
    model, batch, z = problem(1, (9,), 20)
    with torch.no_grad():
        next(model.decoder.parameters()).abs_()
    route = linearize(model, batch, z.abs())
    quadratic = route.frame.quadratic._replace(gram=torch.full((9, 9), level).double())
    route = Gram(replace(route.frame, quadratic=quadratic), z.abs())
    assert compiled_newton.compiled_last_step(route, Backtracking(), False) is None
    with torch.no_grad():
        assert not last_step(route, 0, Backtracking()).ok.all()


@pytest.mark.parametrize("draws", [1, 3])
def test_the_log_likelihood_of_several_draws_has_the_decoders_gradient(draws) -> None:
    """Values are expanded around h0, derivatives around 0."""
    torch.manual_seed(0)
    model, batch, z = problem(3, (8, 9), 5)
    many = (z + torch.randn(draws, 5, 3).double()).requires_grad_()
    wanted = [*model.parameters(), many]
    weigh = torch.randn(draws, 5).double()
    ours, theirs = Gram.of(model, batch, z).log_likelihood(many), model.log_likelihood(batch.x, many)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(slopes((weigh * ours).sum(), wanted), slopes((weigh * theirs).sum(), wanted), strict=True):
        torch.testing.assert_close(one, other)


def test_anything_else_is_left_to_torch() -> None:
    model, batch, z = problem()
    route = Gram.of(model, batch, z)
    assert compiled_newton.compiled_last_step(route, PaperSchedule(), False) is None
    assert compiled_newton.compiled_last_step(Gram(route.frame, z.float()), Backtracking(), False) is None
    assert compiled_newton.compiled_last_step(Layerwise.of(model, batch, z), Backtracking(), False) is None
    smooth = LatentVariableModel(StandardNormal(3), MLP(3, [8], 40, nn.Tanh), Gaussian(40)).double()
    other = batch_of(torch.zeros(30, 40).double())
    assert compiled_newton.compiled_last_step(Gram.of(smooth, other, z), Backtracking(), False) is None
