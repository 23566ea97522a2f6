"""Matrix-free Laplace: the posterior and its gradients, against the one of the formed precision in float64."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from curvae import curvature
from curvae.curvature import ConjugateGradient, Generic, Status, linearization
from curvae.curvature.routes import matrix_free
from curvae.inference import AmortizedGaussian, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP, ConvDecoder
from curvae.objectives import log_weights
from curvae.posteriors import ImplicitGaussian, PrecisionGaussian
from curvae.priors import StandardNormal
from zoo import LinearGaussian, SmoothImages, batch_of, points, relu_model

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def conv_model(size: int = 5, event=(2, 6, 6), scale: float = 0.3):
    model = LatentVariableModel(StandardNormal(size), ConvDecoder(size, event, 2, 8), Gaussian(event, scale=scale))
    model = model.double()
    with torch.no_grad():
        x = model.sample(6)[0]
    return model, batch_of(x)


def start(size: int, event) -> AmortizedGaussian:
    return AmortizedGaussian(nn.Sequential(nn.Flatten(), nn.Linear(math.prod(event), 2 * size))).double()


# ---------------------------------------------------------------------------------------------------- inference


@pytest.mark.parametrize("dense", [0, 128])
def test_exact_on_the_linear_gaussian_model(dense):
    """The posterior is exact, so log p(x, z) - log q(z) is log p(x) for every draw."""
    oracle = LinearGaussian(size=6, outputs=12)
    solver = ConjugateGradient(iterations=12, forcing=1e-14)
    inference = MatrixFreeLaplace(start(6, (12,)), solver=solver, tolerance=1e-20, dense=dense)
    found = inference(oracle.model, oracle.batch)
    assert isinstance(found.posterior, PrecisionGaussian if dense else ImplicitGaussian)
    torch.testing.assert_close(found.posterior.mean, oracle.mean(), atol=1e-9, rtol=1e-9)
    log_w = log_weights(oracle.model, oracle.batch, found.posterior.draw(5))
    torch.testing.assert_close(log_w, oracle.log_evidence().expand(5, -1), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(found.info["log_det"], oracle.precision().logdet().expand(8), **CLOSE)
    assert (found.info["status"] == Status.OK).all()
    assert (found.info["steps"] >= 1).all()


def test_estimated_determinant_shifts_all_weights_of_a_datum_alike():
    """By less than its reported error allows: 5 standard errors, 7 degrees of freedom, all data one matrix."""
    oracle = LinearGaussian(size=40, outputs=60)
    solver = ConjugateGradient(iterations=80, forcing=1e-14)
    inference = MatrixFreeLaplace(start(40, (60,)), solver=solver, dense=0, probes=8, lanczos=40)
    found = inference(oracle.model, oracle.batch)
    log_w = log_weights(oracle.model, oracle.batch, found.posterior.draw(5))
    shift = log_w - oracle.log_evidence()
    torch.testing.assert_close(shift, shift[:1].expand(5, -1), atol=1e-7, rtol=0.0)
    error = found.info["log_det_error"]
    assert (shift[0].abs() < 2.5 * error).all()
    assert (shift[0] != 0).all()


@pytest.mark.parametrize("name", ["gaussian", "bernoulli"])
def test_draws_have_the_covariance(name):
    """Failure rate below 1e-5: 6 standard errors over 8 x 9 entries."""
    model, batch = relu_model(name)
    q = MatrixFreeLaplace(start(3, (10,)), dense=0)(model, batch).posterior
    offset = q.draw(20_000, torch.Generator().manual_seed(2)).z - q.mean
    covariance = torch.linalg.inv(q.precision.local().precision)
    torch.testing.assert_close(q.covariance, covariance, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(q.variance, covariance.diagonal(dim1=-2, dim2=-1), atol=1e-9, rtol=1e-9)
    diagonal = q.variance
    error = ((covariance.square() + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)) / 20_000).sqrt()
    sampled = torch.einsum("sbi,sbj->bij", offset, offset) / 20_000
    assert ((sampled - covariance).abs() < 6 * error).all()
    value, deviation = q.estimated_variance(2000, torch.Generator().manual_seed(3))
    assert ((value - diagonal).abs() < 6 * deviation).all()


def test_density_of_any_point():
    model, batch = relu_model("bernoulli")
    q = MatrixFreeLaplace(start(3, (10,)), dense=0)(model, batch).posterior
    oracle = torch.distributions.MultivariateNormal(q.mean, q.covariance)
    z = torch.randn(5, 8, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(q.log_prob(z), oracle.log_prob(z), **CLOSE)
    slopes = [torch.autograd.grad(at.log_prob(z).sum(), z, retain_graph=True)[0] for at in (q, oracle)]
    torch.testing.assert_close(*slopes, **CLOSE)


@pytest.mark.parametrize("hidden", [False, True])
def test_posterior_rebuilt_from_its_tensors(hidden):
    model, batch = relu_model("bernoulli")
    if hidden:
        batch = batch._replace(mask=torch.rand(8, 10) < 0.6)
    q = MatrixFreeLaplace(start(3, (10,)), dense=0)(model, batch).posterior
    assert q.with_tensors(q.tensors).precision is q.precision
    rows = torch.tensor([5, 2, 2])
    part = q.with_tensors({name: value[rows].detach() for name, value in q.tensors.items()})
    torch.testing.assert_close(part.covariance, q.covariance[rows], **CLOSE)
    z = points(count=3)[None]
    whole = z.new_zeros(1, 8, 3).index_copy(1, rows[:2], z[:, :2])
    torch.testing.assert_close(part.log_prob(z)[:, :2], q.log_prob(whole)[:, rows[:2]], **CLOSE)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_mode_of_a_convolutional_decoder_is_that_of_laplace(preconditioned):
    """A smooth one: at a ridge between two linear pieces each search has its own place to stop."""
    model = LatentVariableModel(StandardNormal(3), SmoothImages(), Gaussian((1, 4, 4), scale=0.5)).double().eval()
    with torch.no_grad():
        batch = batch_of(model.sample(6)[0])
    begin = start(3, (1, 4, 4))
    exact = Laplace(begin, steps=40, route=Generic, tolerance=1e-16)(model, batch)
    found = MatrixFreeLaplace(
        begin, 40, ConjugateGradient(iterations=10, forcing=1e-6), preconditioned, tolerance=1e-16
    )(model, batch)
    for one in (exact, found):
        assert (one.info["grad_norm"][-1] < 1e-6).all()
    torch.testing.assert_close(found.posterior.mean, exact.posterior.mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.posterior.covariance, exact.posterior.covariance, atol=1e-6, rtol=1e-6)


def test_search_never_lowers_the_log_joint():
    model, batch = conv_model()
    levels = MatrixFreeLaplace(start(5, (2, 6, 6)), steps=12)(model, batch).info["log_joint"]
    assert (levels.diff(dim=0) >= 0).all()
    assert (levels[-1] > levels[0]).all()


@pytest.mark.parametrize("dense", [0, 128])
def test_gradient_of_the_mode_is_that_of_laplace(dense):
    """For the data whose mode is not on a kink, where two searches part."""
    model, batch = relu_model("bernoulli")
    begin = start(3, (10,))
    both = (
        Laplace(begin, 30, tolerance=1e-14)(model, batch),
        MatrixFreeLaplace(begin, 30, ConjugateGradient(iterations=10, forcing=1e-10), tolerance=1e-14, dense=dense)(
            model, batch
        ),
    )
    apart = (both[0].posterior.mean - both[1].posterior.mean).norm(dim=-1)
    keep = (apart < 1e-6) & torch.stack([found.info["grad_norm"][-1] < 1e-6 for found in both]).all(0)
    assert keep.any()
    gradients = []
    for found in both:
        total = found.posterior.mean[keep].sin().sum() + found.encoder_bound[keep].sum()
        gradients.append(torch.autograd.grad(total, [*model.parameters(), *begin.parameters()]))
    for value, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dense", [0, 128])
def test_one_bad_datum_does_not_touch_the_others(dense):
    model, batch = conv_model()
    inference = MatrixFreeLaplace(start(5, (2, 6, 6)), dense=dense)
    good = inference(model, batch)
    bad = inference(model, batch._replace(x=batch.x.clone().index_fill_(0, torch.tensor([4]), torch.nan)))
    keep = torch.arange(6) != 4
    torch.testing.assert_close(bad.posterior.mean[keep], good.posterior.mean[keep])
    torch.testing.assert_close(bad.info["log_det"][keep], good.info["log_det"][keep])
    assert (bad.info["status"] == Status.NONFINITE).tolist() == (~keep).tolist()
    draws = [found.posterior.draw(2, torch.Generator().manual_seed(0)).z[:, keep] for found in (bad, good)]
    torch.testing.assert_close(*draws)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gave."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return out


def test_nothing_of_the_size_of_the_jacobian_is_formed(monkeypatch):
    """Neither in the search, nor in the draws, nor in the backward pass; the generic route does form it."""
    for module in (matrix_free, linearization):
        monkeypatch.setattr(module, "MEMORY", 1)
    size, event = 60, (1, 8, 8)
    model = LatentVariableModel(StandardNormal(size), ConvDecoder(size, event, 2, 8), Gaussian(event)).double()
    batch = batch_of(torch.randn(3, *event, dtype=torch.float64))
    jacobian = 3 * 64 * size
    for dense in (0, 128):
        with Largest() as largest:
            found = MatrixFreeLaplace(start(size, event), dense=dense)(model, batch)
            log_weights(model, batch, found.posterior.draw(2)).sum().backward()
        assert largest.numel < jacobian
    with Largest() as largest, torch.no_grad():
        curvature.local(model, batch, points(size, 3), Generic)
    assert largest.numel >= jacobian


def test_a_search_step_costs_few_decoder_passes():
    """One decoding for the first point and one for each line search: what is accepted is not decoded again.

    Steepest ascent of a quadratic: all data take every step in full, and none of them gets there.
    """
    calls = []

    class Counted(nn.Linear):
        def forward(self, z):
            calls.append(len(z))
            return super().forward(z)

    model = LatentVariableModel(StandardNormal(3), Counted(3, 10), Gaussian(10, scale=0.5)).double()
    batch = batch_of(torch.randn(8, 10, dtype=torch.float64))
    inference = MatrixFreeLaplace(start(3, (10,)), 4, ConjugateGradient(iterations=1), precondition=False, tolerance=0)
    with torch.no_grad():
        inference(model, batch)  # the way to the decoder's derivatives is known from here on
        calls.clear()
        inference(model, batch)
    assert calls == [8] * 5


def test_float32_and_autocast():
    model = LatentVariableModel(StandardNormal(3), MLP(3, [16], 10), Gaussian(10, scale=0.1))
    for dense in (0, 128):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            q = MatrixFreeLaplace(AmortizedGaussian(MLP(10, [16], 6)), dense=dense)(model, batch_of(torch.randn(4, 10)))
        assert q.posterior.mean.dtype == q.info["log_det"].dtype == torch.float32
        assert q.posterior.draw(3).log_q.isfinite().all()


def test_misuse(monkeypatch):
    begin = AmortizedGaussian(nn.Linear(10, 6))
    with pytest.raises(ValueError, match="steps must be 0 or more; got -1"):
        MatrixFreeLaplace(begin, steps=-1)
    with pytest.raises(ValueError, match="probes must be 1 or more; got 0"):
        MatrixFreeLaplace(begin, probes=0)
    model, batch = relu_model("gaussian")
    q = MatrixFreeLaplace(start(3, (10,)), dense=0)(model, batch).posterior
    monkeypatch.setattr("curvae.posteriors.implicit_gaussian.MEMORY", 100)
    with pytest.raises(ValueError, match="take 576 bytes; the budget is 100"):
        _ = q.covariance
    with pytest.raises(ValueError, match="level must lie between 0 and 1; got 90"):
        q.interval(90)
