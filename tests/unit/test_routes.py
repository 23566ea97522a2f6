"""Every route of the curvature engine against the explicit Jacobian and information, whatever the shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvae import curvature, linalg
from curvae.curvature import Generic, Gram, Layerwise, Newton, linearize
from curvae.curvature.routes.matrix_free import MatrixFree
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from fuzz import examples
from searches import Undamped
from zoo import LIKELIHOODS, Residual, batch_of, data_for

CLOSE = {"atol": 1e-10, "rtol": 1e-10}
ROUTES = (Gram, Layerwise, Generic, Generic.within(2**14), MatrixFree)
ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Softplus, nn.LeakyReLU, nn.SiLU)


def built(route, model, batch, z):
    return MatrixFree.of(model, batch, z) if route is MatrixFree else linearize(model, batch, z, route)


def information(likelihood: Likelihood, eta: Tensor, mask: Tensor | None) -> Tensor:
    """F (P, P) of one datum, by its textbook formula."""
    if isinstance(likelihood, Gaussian):
        matrix = torch.diag(likelihood.variance.reciprocal().expand(len(eta)))
    elif isinstance(likelihood, Bernoulli):
        matrix = torch.diag(eta.sigmoid() * (1 - eta.sigmoid()))
    else:
        assert isinstance(likelihood, Categorical)
        blocks = eta.view(-1, likelihood.categories).softmax(-1)
        matrix = torch.block_diag(*(torch.diag(p) - torch.outer(p, p) for p in blocks))
    if mask is None:
        return matrix
    seen = mask.repeat_interleave(likelihood.size // mask.numel()).to(matrix)
    return matrix * seen * seen[:, None]


def explicit(model: LatentVariableModel, batch, z: Tensor) -> curvature.LocalExpansion:
    """One datum after the other, the whole Jacobian by reverse mode, the gradient by autograd."""
    found = []
    for item in range(len(z)):
        x = batch.x[item : item + 1]
        mask = None if batch.mask is None else batch.mask[item : item + 1]

        def log_joint(point, x=x, mask=mask):
            return model.log_joint(x, point[None], mask)[0]

        jacobian = torch.func.jacrev(lambda point: model.decode(point[None])[0])(z[item])
        bend = information(model.likelihood, model.decode(z[item : item + 1])[0], None if mask is None else mask[0])
        precision = jacobian.mT @ bend @ jacobian + torch.eye(len(jacobian.mT), dtype=z.dtype)
        found.append((log_joint(z[item]), torch.func.grad(log_joint)(z[item]), precision))
    return curvature.LocalExpansion(*(torch.stack(values) for values in zip(*found, strict=True)))


def agree(found: curvature.LocalExpansion, expected: curvature.LocalExpansion) -> None:
    """To 1e-10 of the size of the numbers; the Gram route's value is a difference of such as the first one."""
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, atol=1e-10 * size_of(other, expected.log_joint), rtol=0)


def size_of(*tensors: Tensor) -> float:
    return max(1.0, *(tensor.abs().max().item() for tensor in tensors))


@settings(max_examples=examples(70), deadline=None, derandomize=True)
@given(
    size=st.integers(1, 6),
    count=st.integers(1, 4),
    name=st.sampled_from(sorted(LIKELIHOODS)),
    event=st.integers(1, 9),
    activation=st.just(nn.ReLU) | st.sampled_from(ACTIVATIONS),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3) | st.sampled_from([[], "residual"]),
    masked=st.booleans(),
    repeated=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_route_is_the_explicit_one(size, count, name, event, activation, hidden, masked, repeated, seed):
    torch.manual_seed(seed)
    likelihood = LIKELIHOODS[name](event)
    if hidden == "residual":
        decoder = Residual(size, 4, likelihood.size, activation)
    else:
        decoder = MLP(size, hidden, likelihood.size, activation)
    model = LatentVariableModel(StandardNormal(size), decoder, likelihood).double()
    batch, z = batch_of(data_for(likelihood, count)), torch.randn(count, size, dtype=torch.float64)
    if masked:
        batch = batch._replace(mask=torch.rand(batch.x.shape) < 0.6)
    if repeated:
        batch = batch._replace(x=batch.x[:1].expand_as(batch.x))
    expected = explicit(model, batch, z)
    for route in ROUTES:
        if route.fits(model, batch):
            there = built(route, model, batch, torch.randn_like(z))
            agree(there.at(z).local(), expected)
            found = there.at(z)
            agree(curvature.LocalExpansion(found.log_joint, found.grad(), found.local().precision), expected)
            step = torch.randn_like(z)
            left = expected.grad - (expected.precision @ step.unsqueeze(-1)).squeeze(-1)
            torch.testing.assert_close(there.at(z).residual(step), left, atol=1e-10 * size_of(left), rtol=0)


def all_off() -> nn.Module:
    decoder = MLP(3, [5, 4], 9)
    nn.init.constant_(decoder[1].bias, -100.0)
    return decoder


def twice() -> nn.Module:
    decoder = nn.Linear(3, 9)
    with torch.no_grad():
        decoder.weight[1:] = decoder.weight[:1]
    return decoder


DEGENERATE = {
    "all units off": all_off,
    "equal rows": twice,
    "narrow": lambda: MLP(3, [2], 9),
}


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_decoders_and_variances(kind, scale):
    likelihood = Gaussian(9, scale=scale)
    model = LatentVariableModel(StandardNormal(3), DEGENERATE[kind](), likelihood).double()
    batch, z = batch_of(torch.randn(4, 9, dtype=torch.float64)), torch.randn(4, 3, dtype=torch.float64)
    expected = explicit(model, batch, z)
    for route in ROUTES:
        if route.fits(model, batch):
            agree(built(route, model, batch, z).local(), expected)
    found = Laplace(AmortizedGaussian(nn.Linear(9, 6).double()), steps=2)(model, batch)
    assert found.posterior.draw(3).log_q.isfinite().all()


@pytest.mark.parametrize("logit", [-800.0, -30.0, 30.0, 800.0])
def test_saturated_coins(logit):
    """Information 0 to rounding: the precision is the prior's, and nothing in it or its gradient is NaN."""
    decoder = nn.Linear(3, 9)
    nn.init.constant_(decoder.bias, logit)
    model = LatentVariableModel(StandardNormal(3), decoder, Bernoulli(9)).double()
    batch, z = batch_of(torch.ones(2, 9, dtype=torch.float64)), torch.randn(2, 3, dtype=torch.float64)
    for route in (Layerwise, Generic, MatrixFree):
        near = built(route, model, batch, z).local()
        agree(near, explicit(model, batch, z))
        slopes = torch.autograd.grad(sum(value.sum() for value in near), list(model.parameters()))
        assert all(slope.isfinite().all() for slope in slopes)


# --------------------------------------------------------------------------------------------------- gradients


def smooth_problem(likelihood: str, size: int = 3):
    torch.manual_seed(1)
    kind = LIKELIHOODS[likelihood](5)
    decoder = MLP(size, [4], kind.size, nn.Tanh)
    model = LatentVariableModel(StandardNormal(size), decoder, kind).double()
    return model, batch_of(data_for(kind, 2)), torch.randn(2, size, dtype=torch.float64)


@pytest.mark.parametrize("route", ROUTES, ids=["gram", "layerwise", "generic", "chunked", "matrix-free"])
@pytest.mark.parametrize("likelihood", ["gaussian-element", "bernoulli", "categorical"])
def test_gradcheck_of_value_determinant_and_draws(route, likelihood):
    model, batch, z = smooth_problem(likelihood)
    if not route.fits(model, batch):
        return
    eps = torch.randn(2, 3, dtype=torch.float64)

    class Outputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, point):
            near = built(route, model, batch, point.detach()).at(point).local()
            factor, _ = linalg.cholesky(near.precision)
            noise = torch.linalg.solve_triangular(factor.mT, eps.unsqueeze(-1), upper=True).squeeze(-1)
            return near.log_joint, near.grad, linalg.half_log_det(factor), point + noise

    outputs = Outputs()
    names, values = zip(*model.named_parameters(), strict=True)
    names = [f"model.{name}" for name in names]

    def run(point, *changed):
        return torch.func.functional_call(outputs, dict(zip(names, changed, strict=True)), (point,))

    inputs = [one.detach().requires_grad_(True) for one in (z, *values)]
    assert torch.autograd.gradcheck(run, inputs, atol=1e-7, fast_mode=True)


@pytest.mark.parametrize("route", ROUTES[:4], ids=["gram", "layerwise", "generic", "chunked"])
@pytest.mark.parametrize("likelihood", ["gaussian-element", "bernoulli"])
def test_gradcheck_of_the_unrolled_posterior(route, likelihood):
    """Two undamped Newton steps, the covariance there, a draw and its density: no derivative is left out."""
    model, batch, _ = smooth_problem(likelihood)
    if not route.fits(model, batch):
        return

    class Outputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
            start = AmortizedGaussian(nn.Linear(5, 6).double())
            self.inference = Laplace(start, 2, Newton(Undamped()), unroll=True, route=route)

        def forward(self):
            draws = self.inference(self.model, batch).posterior.draw(2, torch.Generator().manual_seed(0))
            return draws.z, draws.log_q

    outputs = Outputs()
    names, values = zip(*outputs.named_parameters(), strict=True)

    def run(*changed):
        return torch.func.functional_call(outputs, dict(zip(names, changed, strict=True)), ())

    assert torch.autograd.gradcheck(
        run, [one.detach().requires_grad_(True) for one in values], atol=1e-7, fast_mode=True
    )
