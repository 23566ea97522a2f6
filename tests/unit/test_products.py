"""Products with a precision that is never formed: solutions, draws, determinants, against the formed matrix."""

import pytest
import torch

from curvae import curvature
from curvae.curvature import Generic, linearization
from curvae.curvature.routes.matrix_free import MatrixFree, stochastic_log_det
from curvae.curvature.solvers.conjugate_gradient import conjugate_gradients, solve
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from zoo import LIKELIHOODS, Normal, SmoothImages, batch_of, points, relu_model

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def spd(count: int = 4, size: int = 12):
    root = torch.randn(count, size, size, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(size, dtype=torch.float64)
    return matrix, lambda v: torch.einsum("bij,...bj->...bi", matrix, v)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("memory", [1, 2**24])
def test_products_are_those_of_the_formed_precision(likelihood, hidden, memory, monkeypatch):
    monkeypatch.setattr(linearization, "MEMORY", memory)
    model, batch = relu_model(likelihood)
    model.prior = Normal.correlated(3)
    if hidden:
        batch = batch._replace(mask=torch.rand(batch.x.shape) < 0.7)
    z, v = points(), torch.randn(4, 8, 3, dtype=torch.float64)
    with torch.no_grad():
        near, expected = MatrixFree.of(model, batch, z), curvature.local(model, batch, z, Generic)
        torch.testing.assert_close(near.log_joint, expected.log_joint, **CLOSE)
        torch.testing.assert_close(near.grad(), expected.grad, **CLOSE)
        torch.testing.assert_close(near.local().precision, expected.precision, **CLOSE)
        product = torch.einsum("bij,sbj->sbi", expected.precision, v)
        torch.testing.assert_close(near.product(v), product, **CLOSE)
        torch.testing.assert_close(near.product(v[0]), product[0], **CLOSE)


def test_products_of_a_smooth_convolutional_decoder():
    model = LatentVariableModel(StandardNormal(3), SmoothImages(), Gaussian((1, 4, 4), scale=0.5)).double()
    model.decoder(points(count=32))  # moves the running statistics
    model.eval()
    batch, z = batch_of(torch.randn(8, 1, 4, 4, dtype=torch.float64)), points()
    with torch.no_grad():
        expected = curvature.local(model, batch, z, Generic)
        near = MatrixFree.of(model, batch, z)
        torch.testing.assert_close(near.local().precision, expected.precision, **CLOSE)
        torch.testing.assert_close(near.grad(), expected.grad, **CLOSE)


def test_route_and_its_gradients_are_those_of_the_generic_one():
    model, batch = relu_model("bernoulli")
    probe, gradients = torch.randn(8, 3, 3, dtype=torch.float64), []
    z, step = points(), points()
    for route in (Generic, MatrixFree):
        at = route.of(model, batch, z)
        near = at.at(z).local()
        total = near.log_joint.sum() + near.grad.square().sum() + (probe * near.precision).sum()
        total = total + at.residual(step).square().sum()
        gradients.append([total, *torch.autograd.grad(total, list(model.parameters()))])
    for value, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-8, rtol=1e-9)


def test_perturbation_has_the_precision_as_its_covariance():
    """Failure rate below 1e-5: 6 standard errors over 8 x 9 entries of a Wishart matrix."""
    model, batch = relu_model("categorical")
    model.prior = Normal.correlated(3)
    with torch.no_grad():
        near = MatrixFree.of(model, batch, points())
        y, count = near.perturbation(20_000, torch.Generator().manual_seed(1)), 20_000
        matrix = near.local().precision
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    error = ((matrix.square() + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)) / count).sqrt()
    assert ((torch.einsum("sbi,sbj->bij", y, y) / count - matrix).abs() < 6 * error).all()


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
    found = stochastic_log_det(product, points(12, 3), probes=12, steps=12)
    assert found.value.isnan().tolist() == [False, True, False]
