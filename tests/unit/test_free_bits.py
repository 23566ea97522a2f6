"""Free bits: on the mean of a batch, for each group, in the surrogate alone."""

import pytest
import torch

from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.noise import common_noise
from curvae.objectives import FreeBits, elbo
from curvae.posteriors import DiagonalGaussian, kl
from curvae.priors import StandardNormal
from zoo import batch_of

F64 = torch.float64


def parts(loc: torch.Tensor, floor: float, blocks: tuple[int, ...] | None = None):
    """Bound, q, batch and model for means of q with unit scales: KL = loc^2 / 2."""
    size = loc.shape[1]
    model = LatentVariableModel(StandardNormal(size, blocks), torch.nn.Linear(size, 4), Gaussian(4)).double()
    batch = batch_of(torch.randn(len(loc), 4, dtype=F64))
    q = DiagonalGaussian(loc, torch.zeros_like(loc))
    torch.manual_seed(0)
    return FreeBits(floor)(model, q, batch, 3), q, batch, model


def test_the_reported_number_is_the_elbo():
    loc = torch.randn(5, 3, dtype=F64)
    bound, q, batch, model = parts(loc, 7.0)
    torch.manual_seed(0)
    torch.testing.assert_close(bound.value, elbo(model, q, batch, 3).value)


def test_the_floor_is_under_the_mean_of_the_batch():
    """One datum below the floor, the mean above it: nothing is free. A floor for each datum would free it."""
    loc = torch.tensor([[0.1], [3.0]], dtype=F64, requires_grad=True)
    bound, q, _, model = parts(loc, 1.0)
    assert (kl(q, model.prior)[0] < 1).all()
    gap = (bound.surrogate - bound.value).mean()
    torch.testing.assert_close(gap, torch.zeros((), dtype=F64))
    (slope,) = torch.autograd.grad(gap, loc)
    assert slope.abs().max() < 1e-12


def test_below_the_floor_the_divergence_has_no_gradient():
    loc = torch.tensor([[0.1], [0.2]], dtype=F64, requires_grad=True)
    bound, q, batch, model = parts(loc, 1.0)
    (found,) = torch.autograd.grad(bound.surrogate.mean(), loc, retain_graph=True)
    torch.manual_seed(0)
    fit = model.log_likelihood(batch.x, q.draw(3).z).mean()
    torch.testing.assert_close(found, torch.autograd.grad(fit, loc)[0])
    assert bound.value.mean() > bound.surrogate.mean()


def test_each_group_has_its_own_floor():
    loc = torch.tensor([[0.0, 3.0], [0.0, 3.0]], dtype=F64)
    apart, together = parts(loc, 1.0, (1, 1))[0], parts(loc, 1.0)[0]
    torch.testing.assert_close(apart.value - apart.surrogate, torch.ones(2, dtype=F64))
    torch.testing.assert_close(together.value, together.surrogate)


def test_no_floor_is_the_elbo():
    loc = torch.randn(5, 3, dtype=F64)
    bound, q, batch, model = parts(loc, 0.0)
    torch.manual_seed(0)
    torch.testing.assert_close(bound.surrogate.mean(), elbo(model, q, batch, 3).surrogate.mean())
    assert elbo(model, q, batch, 3, generator=common_noise(0)).value.shape == (5,)


def test_misuse():
    with pytest.raises(ValueError, match="floor must be 0 nats or more; got -1"):
        FreeBits(-1)
