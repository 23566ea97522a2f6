"""Objectives of a batch as a whole: BILBO's information, and BAGGINS' likelihood."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.distributions import kl_divergence as torch_kl

from curvae.inference import AmortizedMean
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import (
    BatchInformation,
    BatchLikelihood,
    aggregate_moments,
    batch_likelihood,
)
from curvae.posteriors import DiagonalGaussian, Draws, FullGaussian
from curvae.priors import AggregateNormal, StandardNormal
from curvae.systems import bilbo
from curvae.typing import DataSpec
from quadrature import Given
from zoo import batch_of

DOUBLE = torch.float64


def sigma_points(mean, packed):
    """A posterior whose draws integrate quadratics exactly: ``+- sqrt(D)`` along each axis."""
    size = mean.shape[-1]
    eye = math.sqrt(size) * torch.eye(size, dtype=mean.dtype)
    noise = torch.cat([eye, -eye])[:, None].expand(-1, len(mean), -1)

    class Points(FullGaussian):
        def draw(self, n, generator=None):
            z = self.loc + self.color(noise)
            return Draws.iid(z, self.log_prob(z))

    return Points(mean, packed)


def test_batch_information_is_the_mean_divergence_to_the_best_normal():
    loc, roots = torch.randn(20, 3, dtype=DOUBLE), 0.3 * torch.randn(20, 3, 3, dtype=DOUBLE)
    q = FullGaussian(loc, roots.tril())
    whole = aggregate_moments(q, unbiased=False)
    prior = MultivariateNormal(whole.mean, whole.covariance)
    exact = torch_kl(MultivariateNormal(loc, q.covariance), prior).mean()
    torch.testing.assert_close(whole.information, exact)
    unit = aggregate_moments(DiagonalGaussian(loc, torch.zeros_like(loc)), unbiased=True)
    torch.testing.assert_close(unit.information, 0.5 * torch.logdet(torch.eye(3) + loc.mT.cov()))


def test_constant_variance_reaches_the_evidence_of_probabilistic_pca():
    """At the maximum-likelihood solution the batch bound equals the log-likelihood: constant variance loses nothing."""
    x = torch.randn(50, 6, dtype=DOUBLE) @ torch.randn(6, 6, dtype=DOUBLE)
    mean, size = x.mean(0), 2
    values, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
    noise = values[:-size].mean()
    weight = vectors[:, -size:] * (values[-size:] - noise).sqrt()
    precision = weight.mT @ weight / noise + torch.eye(size)
    root = torch.linalg.cholesky(torch.linalg.inv(precision))
    decoder = nn.Linear(size, 6).double()
    with torch.no_grad():
        decoder.weight.copy_(weight @ root)  # latents scaled to a unit posterior variance
        decoder.bias.copy_(mean)
    model = LatentVariableModel(AggregateNormal(size), decoder, Gaussian(6, scale=noise.item() ** 0.5)).double()
    center = torch.linalg.solve(root, torch.linalg.solve(precision, weight.mT @ (x - mean).mT / noise)).mT
    q = sigma_points(center, torch.zeros(50, size, size, dtype=DOUBLE))
    bound = BatchInformation(unbiased=False)(model, q, batch_of(x), 4)
    exact = MultivariateNormal(mean, weight @ weight.mT + noise * torch.eye(6, dtype=DOUBLE)).log_prob(x)
    torch.testing.assert_close(bound.surrogate.mean(), exact.mean(), atol=1e-10, rtol=0)
    model.prior.load_state_dict({key.removeprefix("model.prior."): value for key, value in bound.state.items()})
    reported = BatchInformation()(model, q, batch_of(x), 4).value
    torch.testing.assert_close(reported.mean(), exact.mean(), atol=1e-10, rtol=0)
    assert (reported <= exact + 1e-9).all(), "with the frozen prior it is a bound for each datum"


def test_moments_of_the_prior_are_a_running_average():
    """The first batches count the same: after two, the moments are those of both together."""
    prior, parts = AggregateNormal(2).double(), torch.randn(2, 30, 2, dtype=DOUBLE)
    for part in parts:
        prior.load_state_dict(prior.toward(part.mean(0), part.mT.cov(correction=0)))
    torch.testing.assert_close(prior.mean, parts.flatten(0, 1).mean(0))
    torch.testing.assert_close(prior.covariance, parts.flatten(0, 1).mT.cov(correction=0))
    assert prior.seen == 2


def test_a_prior_of_one_latent_and_what_is_refused():
    prior = AggregateNormal(1, rate=1.0).double()
    prior.load_state_dict(prior.toward(torch.tensor([0.5]).double(), torch.tensor([[4.0]]).double()))
    z = torch.randn(5, 1, dtype=DOUBLE)
    torch.testing.assert_close(prior.log_prob(z), torch.distributions.Normal(0.5, 2.0).log_prob(z)[:, 0])
    assert prior.precision(z).flatten().tolist() == [0.25] * 5
    with pytest.raises(ValueError, match=r"size >= 1 and rate in \(0, 1\]; got 0 and 0.01"):
        AggregateNormal(0)
    with pytest.raises(ValueError, match=r"size >= 1 and rate in \(0, 1\]; got 2 and 1.5"):
        AggregateNormal(2, rate=1.5)
    with pytest.raises(ValueError, match=r"size >= 1 and rate in \(0, 1\]; got 2 and 0"):
        AggregateNormal(2, rate=0)


def test_the_prior_moves_in_training_only_and_reports_do_not_see_the_batch():
    system = bilbo(DataSpec((5,)), latent=2, hidden=8)
    x = torch.randn(16, 5)
    torch.manual_seed(0)
    whole = system.bound(batch_of(x))
    torch.manual_seed(0)
    assert torch.equal(system.bound(batch_of(x)).value, whole.value)
    assert set(whole.state) == {f"model.prior.{name}" for name in ("mean", "covariance", "seen")}
    assert system.model.prior.seen == 0
    for name in whole.state:
        system.get_buffer(name)


def test_half_the_encoder_outputs():
    assert AmortizedMean(nn.Linear(5, 3))(None, batch_of(torch.zeros(4, 5))).posterior.mean.shape == (4, 3)
    system = bilbo(DataSpec((5,)), latent=3, hidden=8)
    assert system.inference.encoder[-1].out_features == 3


def test_batch_likelihood_is_bounded_and_blind_to_scale():
    x, eta = torch.randn(30, 4, dtype=DOUBLE), torch.randn(5, 30, 4, dtype=DOUBLE)
    found = batch_likelihood(x, eta, None, 0.01)
    ratio = (x - eta).square().mean((0, 1)) / x.var(0, correction=0)
    torch.testing.assert_close(found, -0.5 * (ratio + 0.01).log().sum())
    scale = torch.tensor([1e-3, 1.0, 10.0, 1e4], dtype=DOUBLE)
    torch.testing.assert_close(batch_likelihood(scale * x, scale * eta, None, 0.01), found)
    best = batch_likelihood(x, x.expand(5, -1, -1), None, 0.01)
    torch.testing.assert_close(best, torch.tensor(2 * math.log(100), dtype=DOUBLE))
    mask = torch.rand(30, 4) < 0.7
    holes = torch.where(mask, x, 0.0)
    torch.testing.assert_close(
        batch_likelihood(holes, eta, mask, 0.01),
        sum(batch_likelihood(x[mask[:, j], j : j + 1], eta[:, mask[:, j], j : j + 1], None, 0.01) for j in range(4)),
    )
    constant = torch.cat([x, torch.ones(30, 1)], 1), torch.cat([eta, torch.ones(5, 30, 1)], -1).requires_grad_()
    left_out = batch_likelihood(*constant, None, 0.01)
    torch.testing.assert_close(left_out, found)
    assert torch.autograd.grad(left_out, constant[1])[0].isfinite().all()


def test_likelihood_of_the_batch_form_learns_its_own_variance():
    """The decoder gets the batch form's gradient alone, the variance that of its own log-density."""
    decoder = nn.Linear(2, 4).double()
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(4, learn="element")).double()
    x, q = (
        torch.randn(20, 4, dtype=DOUBLE),
        Given(*torch.zeros(2, 20, 2, dtype=DOUBLE), torch.randn(3, 20, 2, dtype=DOUBLE)),
    )
    bound = BatchLikelihood(0.01)(model, q, batch_of(x), 3)
    found = torch.autograd.grad(bound.surrogate.mean(), [decoder.weight, model.likelihood.log_variance])
    z = Given(q.loc, q.log_scale, q.noise).draw(3).z
    (weight,) = torch.autograd.grad(batch_likelihood(x, model.decode(z), None, 0.01), decoder.weight)
    (variance,) = torch.autograd.grad(model.log_likelihood(x, z).mean(), model.likelihood.log_variance)
    torch.testing.assert_close(found, (weight, variance))


def test_the_floor_bounds_what_a_perfect_fit_is_worth():
    """1/2 log 1000 nats a dimension by default, whatever the scale of the data."""
    model = LatentVariableModel(StandardNormal(2), nn.Identity(), Gaussian(2)).double()
    x = 100 * torch.randn(30, 2, dtype=DOUBLE)
    bound = BatchLikelihood()(model, DiagonalGaussian(x, torch.full_like(x, -30.0)), batch_of(x), 2)
    worth = bound.surrogate + bound.info["information"]
    torch.testing.assert_close(worth, torch.full_like(worth, math.log(1000)))
