"""Matrix-free curvature: products, solutions, draws and determinants, against the formed matrix in float64."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from curvae import curvature
from curvae.curvature import ConjugateGradient, Generic, Status, matrix_free, products
from curvae.curvature.conjugate_gradient import conjugate_gradients, solve
from curvae.curvature.matrix_free import MatrixFree, stochastic_log_det
from curvae.curvature.products import Products
from curvae.inference import AmortizedGaussian, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP, ConvDecoder
from curvae.objectives import log_weights
from curvae.posteriors import ImplicitGaussian, PrecisionGaussian
from curvae.priors import StandardNormal
from zoo import LIKELIHOODS, LinearGaussian, Normal, batch_of, relu_model

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def points(count: int = 8, size: int = 3):
    return torch.randn(count, size, dtype=torch.float64)


def conv_model(size: int = 5, event=(2, 6, 6), scale: float = 0.3):
    model = LatentVariableModel(StandardNormal(size), ConvDecoder(size, event, 2, 8), Gaussian(event, scale=scale))
    model = model.double()
    with torch.no_grad():
        x = model.sample(6)[0]
    return model, batch_of(x)


def start(size: int, event) -> AmortizedGaussian:
    return AmortizedGaussian(nn.Sequential(nn.Flatten(), nn.Linear(math.prod(event), 2 * size))).double()


def spd(count: int = 4, size: int = 12):
    root = torch.randn(count, size, size, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(size, dtype=torch.float64)
    return matrix, lambda v: torch.einsum("bij,...bj->...bi", matrix, v)


# ---------------------------------------------------------------------------------------------------- the products


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("memory", [1, 2**24])
def test_products_are_those_of_the_formed_precision(likelihood, hidden, memory, monkeypatch):
    monkeypatch.setattr(products, "MEMORY", memory)
    model, batch = relu_model(likelihood)
    model.prior = Normal.correlated(3)
    if hidden:
        batch = batch._replace(mask=torch.rand(batch.x.shape) < 0.7)
    z, v = points(), torch.randn(4, 8, 3, dtype=torch.float64)
    with torch.no_grad():
        near, expected = Products(model, batch, z), curvature.local(model, batch, z, Generic)
        torch.testing.assert_close(near.log_joint, expected.log_joint, **CLOSE)
        torch.testing.assert_close(near.grad, expected.grad, **CLOSE)
        torch.testing.assert_close(near.matrix(), expected.precision, **CLOSE)
        product = torch.einsum("bij,sbj->sbi", expected.precision, v)
        torch.testing.assert_close(near(v), product, **CLOSE)
        torch.testing.assert_close(near(v[0]), product[0], **CLOSE)


class Smooth(nn.Module):
    """Convolution, batch normalization, dropout and a residual: what evaluation mode makes independent by row."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 16)
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU(), nn.Dropout(0.5))
        self.last = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, z):
        image = self.first(z).unflatten(1, (1, 4, 4))
        return image + self.last(self.body(image))


def test_products_of_a_smooth_convolutional_decoder():
    model = LatentVariableModel(StandardNormal(3), Smooth(), Gaussian((1, 4, 4), scale=0.5)).double()
    model.decoder(points(32))  # moves the running statistics
    model.eval()
    batch, z = batch_of(torch.randn(8, 1, 4, 4, dtype=torch.float64)), points()
    with torch.no_grad():
        expected = curvature.local(model, batch, z, Generic)
        near = Products(model, batch, z)
        torch.testing.assert_close(near.matrix(), expected.precision, **CLOSE)
        torch.testing.assert_close(near.grad, expected.grad, **CLOSE)


def test_route_and_its_gradients_are_those_of_the_generic_one():
    model, batch = relu_model("bernoulli")
    probe, gradients = torch.randn(8, 3, 3, dtype=torch.float64), []
    z, step = points(), points()
    for route in (Generic, MatrixFree):
        at = route.at(model, batch, z)
        near = at.local(z)
        total = near.log_joint.sum() + near.grad.square().sum() + (probe * near.precision).sum()
        total = total + at.residual(z, step).square().sum()
        gradients.append([total, *torch.autograd.grad(total, list(model.parameters()))])
    for value, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-8, rtol=1e-9)


def test_perturbation_has_the_precision_as_its_covariance():
    """Failure rate below 1e-5: 6 standard errors over 8 x 9 entries of a Wishart matrix."""
    model, batch = relu_model("categorical")
    model.prior = Normal.correlated(3)
    with torch.no_grad():
        near = Products(model, batch, points())
        y, count = near.perturbation(20_000, torch.Generator().manual_seed(1)), 20_000
        matrix = near.matrix()
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    error = ((matrix.square() + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)) / count).sqrt()
    assert ((torch.einsum("sbi,sbj->bij", y, y) / count - matrix).abs() < 6 * error).all()


# -------------------------------------------------------------------------------------------- conjugate gradients


@pytest.mark.parametrize("preconditioned", [False, True])
def test_conjugate_gradients_solve(preconditioned):
    matrix, product = spd()
    target = torch.randn(3, 4, 12, dtype=torch.float64)
    diagonal = 1 / matrix.diagonal(dim1=-2, dim2=-1) if preconditioned else None
    solved = conjugate_gradients(product, target, 100, 1e-13, diagonal)
    expected = torch.linalg.solve(matrix, target.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(solved.solution, expected, atol=1e-8, rtol=1e-8)
    assert solved.converged.all()
    torch.testing.assert_close(solve(product, target), expected, atol=1e-8, rtol=1e-8)


def test_conjugate_gradients_leave_what_is_done_alone():
    """A multiple of the identity takes one iteration, beside what takes many; zero takes none; NaN stays its own."""
    matrix, _ = spd(4)
    matrix[1] = 3 * torch.eye(12)
    target = torch.randn(4, 12, dtype=torch.float64)
    target[2], matrix[3] = 0.0, torch.nan
    solved = conjugate_gradients(lambda v: torch.einsum("bij,bj->bi", matrix, v), target, 50, 1e-10)
    assert solved.iterations[1:].tolist() == [1, 0, 0]
    assert solved.iterations[0] > 5
    assert solved.converged.tolist() == [True, True, True, False]
    torch.testing.assert_close(solved.solution[1], target[1] / 3)
    assert (solved.solution[2:] == 0).all()


def test_truncated_step_ascends_and_knows_its_gain():
    """``1/2 target'y`` is what y gains in the quadratic model, at every iteration."""
    _, product = spd()
    target = torch.randn(4, 12, dtype=torch.float64)
    gains = []
    for iterations in range(1, 8):
        y = conjugate_gradients(product, target, iterations, 0.0).solution
        gains.append((target * y).sum(-1) - 0.5 * (y * product(y)).sum(-1))
        torch.testing.assert_close(gains[-1], 0.5 * (target * y).sum(-1))
    assert (torch.stack(gains).diff(dim=0) > 0).all()


# ------------------------------------------------------------------------------------------------- determinants


def test_log_det_is_exact_with_as_many_probes_as_dimensions():
    matrix, product = spd()
    matrix[1] = torch.eye(12)  # the Krylov space ends after one step
    found = stochastic_log_det(product, matrix[..., 0], probes=50, steps=50)
    torch.testing.assert_close(found.value, matrix.logdet(), atol=1e-9, rtol=1e-10)
    assert (found.error == 0).all()


def test_log_det_stays_within_its_own_error():
    """Failure rate below 1e-3: 16 probes leave 15 degrees of freedom, 5 standard errors, over 8 matrices."""
    matrix, product = spd(8, 100)
    found = stochastic_log_det(product, matrix[..., 0], probes=16, steps=60)
    assert ((found.value - matrix.logdet()).abs() < 5 * found.error).all()
    assert (found.error < 0.1 * matrix.logdet()).all()


def test_too_few_lanczos_steps_err_upwards():
    matrix, product = spd(4, 20)
    levels = [stochastic_log_det(product, matrix[..., 0], probes=20, steps=steps).value for steps in (2, 5, 10, 20)]
    assert (torch.stack(levels).diff(dim=0) < 1e-9).all()


def test_log_det_of_what_is_not_finite_is_nan_and_alone():
    matrix, product = spd(3)
    matrix[1] = torch.nan
    found = stochastic_log_det(product, points(3, 12), probes=12, steps=12)
    assert found.value.isnan().tolist() == [False, True, False]


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
    inference.margin = 3.0
    safer = inference(oracle.model, oracle.batch).info["log_det"]
    torch.testing.assert_close(safer - found.info["log_det"], 3 * error)


@pytest.mark.parametrize("name", ["gaussian", "bernoulli"])
def test_draws_have_the_covariance(name):
    """Failure rate below 1e-5: 6 standard errors over 8 x 9 entries."""
    model, batch = relu_model(name)
    q = MatrixFreeLaplace(start(3, (10,)), dense=0)(model, batch).posterior
    offset = q.draw(20_000, torch.Generator().manual_seed(2)).z - q.mean
    covariance = torch.linalg.inv(q.precision.matrix())
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
    z = points(3)[None]
    whole = z.new_zeros(1, 8, 3).index_copy(1, rows[:2], z[:, :2])
    torch.testing.assert_close(part.log_prob(z)[:, :2], q.log_prob(whole)[:, rows[:2]], **CLOSE)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_mode_of_a_convolutional_decoder_is_that_of_laplace(preconditioned):
    """A smooth one: at a ridge between two linear pieces each search has its own place to stop."""
    model = LatentVariableModel(StandardNormal(3), Smooth(), Gaussian((1, 4, 4), scale=0.5)).double().eval()
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
    for module in (matrix_free, products):
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
        curvature.local(model, batch, points(3, size), Generic)
    assert largest.numel >= jacobian


def test_a_search_step_costs_few_decoder_passes():
    """One decoding for the first point and one for each line search: what is accepted is not decoded again."""
    calls = []

    class Counted(nn.Linear):
        def forward(self, z):
            calls.append(len(z))
            return super().forward(z)

    model = LatentVariableModel(StandardNormal(3), Counted(3, 10), Gaussian(10, scale=0.5)).double()
    batch = batch_of(torch.randn(8, 10, dtype=torch.float64))
    with torch.no_grad():
        MatrixFreeLaplace(start(3, (10,)), steps=4)(model, batch)
    assert len(calls) <= 5


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
