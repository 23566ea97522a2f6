"""The curvature engine: every route against autograd, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import hessian

from curvae import curvature
from curvae.curvature import Generic, Gram, Layerwise, Status, linearize
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP, ConvDecoder
from curvae.priors import StandardNormal
from fuzz import examples
from zoo import LIKELIHOODS, MORE_LIKELIHOODS, batch_of, points, relu_model

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


@pytest.mark.parametrize("route", [Gram, Layerwise, Generic])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_precision_is_the_hessian_of_a_relu_model(route, likelihood):
    model, batch = relu_model(likelihood)
    z = points()
    if not route.fits(model, batch):
        assert route is Gram
        return
    near = curvature.local(model, batch, z, route)
    for item in range(3):

        def log_joint(point, item=item):
            return model.log_joint(batch.x[item : item + 1], point[None])[0]

        torch.testing.assert_close(near.log_joint[item], log_joint(z[item]), **CLOSE)
        torch.testing.assert_close(near.grad[item], torch.func.grad(log_joint)(z[item]), **CLOSE)
        torch.testing.assert_close(near.precision[item], -hessian(log_joint, z[item]), **CLOSE)


@settings(max_examples=examples(25), deadline=None, derandomize=True)
@given(
    size=st.integers(1, 5),
    hidden=st.lists(st.integers(1, 6), max_size=3),
    outputs=st.integers(1, 12),
    scale=st.sampled_from([1e-2, 1.0, 1e2]),
    learn=st.sampled_from([None, "shared", "element"]),
)
def test_routes_agree_on_any_shape(size, hidden, outputs, scale, learn):
    decoder = MLP(size, hidden, outputs)
    model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(outputs, scale=scale, learn=learn)).double()
    batch, z = batch_of(torch.randn(4, outputs, dtype=torch.float64)), points(size, 4)
    reference = curvature.local(model, batch, z, Generic)
    for route in (Gram, Layerwise):
        if route.fits(model, batch):
            other = linearize(model, batch, points(size, 4), route).at(z).local()  # built around another point
            for value, expected in zip(other, reference, strict=True):
                size_of = expected.abs().max().item() + reference.log_joint.abs().max().item()
                torch.testing.assert_close(value, expected, atol=1e-12 * size_of + 1e-10, rtol=1e-10)


@pytest.mark.parametrize("likelihood", LIKELIHOODS | MORE_LIKELIHOODS)
def test_routes_agree_in_the_gradient_of_the_parameters(likelihood):
    model, batch = relu_model(likelihood)
    z = points()
    probe = torch.randn(8, 3, 3, dtype=torch.float64)
    gradients = {}
    for route in (Gram, Layerwise, Generic):
        if route.fits(model, batch):
            point = z.clone().requires_grad_(True)
            near = curvature.local(model, batch, point, route)
            total = near.log_joint.sum() + near.grad.square().sum() + (probe * near.precision).sum()
            gradients[route] = torch.autograd.grad(total, [point, *model.parameters()], allow_unused=True)
    reference = gradients.pop(Generic)
    for other in gradients.values():
        for value, expected in zip(other, reference, strict=True):
            if expected is not None and value is not None:
                torch.testing.assert_close(value, expected, atol=1e-8, rtol=1e-9)
            else:
                assert all(one is None or (one == 0).all() for one in (expected, value))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus, nn.GELU, nn.LeakyReLU])
def test_smooth_decoders_give_the_gauss_newton_matrix(activation):
    model = LatentVariableModel(StandardNormal(2), MLP(2, [6], 9, activation), Gaussian(9)).double()
    batch, z = batch_of(torch.randn(3, 9, dtype=torch.float64)), points(2, 3)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: model.decode(point[None])[0]))(z)
    expected = jacobian.mT @ jacobian + torch.eye(2, dtype=torch.float64)
    for route in (Gram, Layerwise, Generic):
        torch.testing.assert_close(curvature.local(model, batch, z, route).precision, expected, **CLOSE)


def test_convolutional_decoder_in_chunks():
    model = LatentVariableModel(StandardNormal(3), ConvDecoder(3, (2, 6, 6), width=2, hidden=8), Gaussian((2, 6, 6)))
    model = model.double()
    batch, z = batch_of(torch.randn(5, 2, 6, 6, dtype=torch.float64)), points(3, 5)
    route = linearize(model, batch, z)
    assert type(route) is Generic
    whole = route.at(z).local()
    alone = type("Generic", (Generic,), {"memory": 1})(route.frame, z)  # one datum at a time
    for value, expected in zip(alone.local(), whole, strict=True):
        torch.testing.assert_close(value, expected, **CLOSE)


def test_masked_data_take_the_layerwise_route():
    model, batch = relu_model("gaussian")
    batch = batch._replace(mask=torch.rand(8, 10) < 0.7)
    z = points()
    assert type(linearize(model, batch, z)) is Layerwise
    one, two = (curvature.local(model, batch, z, route) for route in (Layerwise, Generic))
    torch.testing.assert_close(one.precision, two.precision, **CLOSE)
    torch.testing.assert_close(one.grad, two.grad, **CLOSE)


def test_cheapest_route_is_chosen_and_a_wrong_one_refused():
    model, batch = relu_model("gaussian")
    assert type(linearize(model, batch, points())) is Gram
    bernoulli, coins = relu_model("bernoulli")
    assert type(linearize(bernoulli, coins, points())) is Layerwise
    table = Gaussian(4, scale=0.5)
    for decoder, route in (
        (MLP(3, [9, 9], 4), Gram),  # fewer outputs than units: G is no larger than the layer before it
        (MLP(3, [40], 4), Layerwise),  # G would be larger than all layers
        (MLP(3, [9, 9], 4, nn.Tanh), Layerwise),  # no compiled code for these
    ):
        model = LatentVariableModel(StandardNormal(3), decoder, table).double()
        found = linearize(model, batch_of(torch.randn(8, 4).double()), points())
        assert type(found) is route
        assert route is not Gram or not found.cheap
    with pytest.raises(ValueError, match="Gram route: expects a chain ending in a Linear layer that widens"):
        linearize(bernoulli, coins, points(), Gram)


def test_degenerate_decoders():
    """All units off, duplicate rows, more latents than outputs: the prior keeps the precision positive definite."""
    off = MLP(3, [5], 9)
    nn.init.constant_(off[1].bias, -100.0)
    twice = nn.Linear(3, 9)
    with torch.no_grad():
        twice.weight[1:] = twice.weight[:1]
    for decoder, outputs in ((off, 9), (twice, 9), (nn.Linear(3, 2), 2)):
        model = LatentVariableModel(StandardNormal(3), decoder, Gaussian(outputs, scale=1e-3)).double()
        batch = batch_of(torch.randn(4, outputs, dtype=torch.float64))
        found = Laplace(AmortizedGaussian(nn.Linear(outputs, 6).double()), steps=2)(model, batch)
        assert torch.linalg.eigvalsh(found.posterior.precision).min() >= 1 - 1e-6
        assert (found.info["status"] == Status.OK).all()
