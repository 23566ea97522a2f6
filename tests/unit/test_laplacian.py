"""The Laplacian autoencoder: where its curvature settles, what a draw is, and which gradient moves the mean."""

import math

import pytest
import torch
from torch import nn

import lifecycle
from curvae.likelihoods import Gaussian
from curvae.networks import MLP
from curvae.systems import DrawsModels, laplacian_ae
from curvae.systems.codes import reconstruction_bound
from curvae.systems.laplacian import OnlineBound, begin_online
from curvae.typing import Batch
from curvae.weights import OnlineLaplace, named_weights, network_diagonal, weight_vector

F64 = torch.float64
DATA = lifecycle.data_of((6,))


def made(**options: object):
    torch.manual_seed(0)
    networks = {
        "encoder": MLP(6, [4], 2, nn.Tanh),
        "decoder": MLP(2, [4], 6, nn.Tanh),
        "likelihood": Gaussian(6, scale=0.5),
    }
    return laplacian_ae(DATA.spec, 2, **{**networks, **options})


def brute_force(system, x: torch.Tensor) -> torch.Tensor:
    """Diagonal of ``sum_n J_n' J_n / s^2`` of encoder and decoder, from the whole Jacobian."""
    network = system.autoencoder

    def eta(vector: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(network, named_weights(network, vector), (x,))

    jacobian = torch.func.jacrev(eta)(weight_vector(network).detach())
    return (jacobian.square().sum((0, 1)) / 0.25).detach()


def test_curvature_of_the_whole_autoencoder():
    system, x = made().double(), lifecycle.first(DATA.train).x.double()
    found = network_diagonal(system.autoencoder, x, system.model.likelihood)
    torch.testing.assert_close(found, brute_force(system, x), rtol=1e-9, atol=1e-12)
    sampled = [network_diagonal(system.autoencoder, x, system.model.likelihood, way="sampled") for _ in range(50)]
    off = torch.stack(sampled).mean(0) - found
    assert (off.abs() <= 6 * torch.stack(sampled).std(0) / math.sqrt(50) + 1e-12).all()  # below 1e-6


@pytest.mark.parametrize("factor", [1, 7])
def test_curvature_settles_at_that_of_all_rows(factor):
    """Weights that do not move: an average of batches, each scaled to all rows, is once the matrix of all of them.

    A sum that forgets a thousandth a step, as in the authors' code, comes to a thousand times as much. At a temperature
    of nearly 0 draws are the mean.
    """
    system = made(temperature=1e-30, curvature="exact").double()
    system.weights.rate = 0.5
    batch = lifecycle.first(DATA.train)._replace(x=lifecycle.first(DATA.train).x.double())
    system.weights.begin(weight_vector(system.autoencoder).detach(), rows=8 * factor)
    for _ in range(60):
        system.weights.curvature = OnlineBound("exact")(system, batch).state["weights.curvature"]
    torch.testing.assert_close(system.weights.curvature, factor * brute_force(system, batch.x))


def test_of_batches_in_turn_it_is_the_mean():
    """A slow average over two halves, in turns: within the rate of the matrix of the whole."""
    q = OnlineLaplace(rate=0.01).double()
    halves = torch.rand(2, 5, dtype=F64)
    q.begin(torch.zeros(5, dtype=F64), rows=2)
    for step in range(1000):
        q.curvature = q.moved(2 * halves[step % 2])["curvature"]
    torch.testing.assert_close(q.curvature, halves.sum(0), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_temperature_is_that_of_the_posterior(temperature):
    """At 1 it is Laplace's: 4,000 draws of five weights, within 6 standard errors."""
    q = OnlineLaplace(temperature, prior_precision=2.0)
    q.begin(torch.zeros(5), rows=10)
    q.curvature = torch.tensor([0.0, 1.0, 10.0, 100.0, 1000.0])
    draws = torch.stack([*q.draw(torch.zeros(5), 4000, torch.Generator().manual_seed(0))])
    ratio = draws.var(0) * (q.curvature + 2.0) / temperature
    assert (ratio - 1).abs().max() < 6 * math.sqrt(2 / 4000)


def test_the_gradient_at_a_draw_moves_the_mean():
    """Expected reconstruction at ``theta + s e``, differentiated by theta with e held: not that at theta."""
    system = made(temperature=1.0)
    batch = lifecycle.first(DATA.train)
    begin_online(system, DATA)
    network = system.autoencoder
    center = weight_vector(network).detach()
    torch.manual_seed(3)
    OnlineBound()(system, batch).surrogate.sum().backward()
    found = torch.cat([each.grad.flatten() for each in network.parameters()])
    torch.manual_seed(3)
    drawn = center + system.weights.deviation * torch.randn(len(center))
    expected = slope(system, network, drawn, batch) - 8 / len(DATA.train) * center
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, slope(system, network, center, batch) - 8 / len(DATA.train) * center, rtol=0.1)


def slope(system, network: nn.Module, vector: torch.Tensor, batch: Batch) -> torch.Tensor:
    vector = vector.clone().requires_grad_()
    eta = torch.func.functional_call(network, named_weights(network, vector), (batch.x,))
    return torch.autograd.grad(system.model.likelihood.log_prob(batch.x, eta).sum(), vector)[0]


def test_models_have_drawn_encoders_and_decoders():
    system = made(draws=3)
    lifecycle.trained(system, DATA)
    system.eval()
    assert isinstance(system, DrawsModels)
    before, x = weight_vector(system.autoencoder).detach().clone(), DATA.validation.x
    codes, rebuilt = system.redrawn(x, 3, torch.Generator().manual_seed(0))
    assert codes.shape == (3, len(x), 2)
    assert rebuilt.shape == (3, *x.shape)
    assert (codes.std(0) > 0).all()
    assert (rebuilt.std(0) > 0).all()
    for drawn in system.models(2, torch.Generator().manual_seed(0)):
        assert drawn.log_weights(Batch.of(x), 2).log_w.isfinite().all()
        assert reconstruction_bound(drawn, Batch.of(x)).surrogate.isfinite().all()
    assert torch.equal(weight_vector(system.autoencoder).detach(), before)
    assert len(system.parts().model.members) == system.draws


def test_misuse_of_the_laplacian_autoencoder():
    with pytest.raises(ValueError, match=r"expected temperature and precision above 0, rate in \(0, 1\]; got 0.0, 1.0"):
        made(temperature=0.0)
    with pytest.raises(ValueError, match="LaplacianSystem: draws must be 1 or more; got 0"):
        made(draws=0)
    with pytest.raises(ValueError, match="without running statistics"):
        made(encoder=nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2)))
