"""Imputation: the corrected chain reaches the exact conditional whatever q, the uncorrected one does not."""

import copy
import math

import pytest
import torch

import methods
from chance import beyond, deviates
from curvae.distributions.gaussian import pack
from curvae.evaluation import impute
from curvae.inference import AmortizedGaussian, Inference, Inferred
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, FullGaussian, Mixture, Posterior
from curvae.systems import LatentSystem, vae
from curvae.typing import DataSpec
from zoo import LIKELIHOODS, LinearGaussian, data_for, relu_model

CHAINS = 1500
MASK = torch.tensor([True, False, True, False]).expand(2, 4)


def oracle() -> LinearGaussian:
    made = LinearGaussian(size=2, outputs=4, scale=0.7, count=2)
    with torch.no_grad():
        made.model.decoder.weight.mul_(1.5)
    made.weight = made.model.decoder.weight.detach()
    made.x = made.marginal().sample((2,))
    return made


class Gaussians(Inference):
    """The exact posterior, and what is made of it."""

    def __init__(self, oracle, change):
        super().__init__()
        self.oracle, self.change = oracle, change

    def forward(self, model, batch):
        at = copy.copy(self.oracle)
        at.x = batch.x
        covariance = torch.linalg.inv(at.precision()).expand(len(batch.x), -1, -1)
        return Inferred(self.change(at.mean(), covariance))


def exact(mean, covariance):
    return FullGaussian(mean, pack(torch.linalg.cholesky(covariance)))


def wrong(mean, covariance):
    """Shifted, shrunk and wider, without correlations."""
    return DiagonalGaussian(0.7 * mean + 0.3, 0.5 * covariance.diagonal(dim1=-2, dim2=-1).log() + 0.3)


def far(mean, covariance):
    """Three times as wide, and shifted: so wrong that no model hides it."""
    return DiagonalGaussian(mean + 2, 0.5 * covariance.diagonal(dim1=-2, dim2=-1).log() + math.log(3))


def strata(mean, covariance):
    """Two components that are drawn from at once."""
    parts = (wrong(mean, covariance), wrong(mean - 0.5, 2 * covariance))
    return Mixture(parts, torch.tensor([[1.0, -0.5]], dtype=torch.float64).expand(len(mean), 2))


def conditional(oracle: LinearGaussian) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (B, 2) and covariance of what is missing given what is observed."""
    joint = oracle.marginal().covariance_matrix
    seen, hidden = MASK[0].nonzero()[:, 0], (~MASK[0]).nonzero()[:, 0]
    gain = joint[hidden][:, seen] @ torch.linalg.inv(joint[seen][:, seen])
    mean = oracle.bias[hidden] + (oracle.x[:, seen] - oracle.bias[seen]) @ gain.mT
    return mean, joint[hidden][:, hidden] - gain @ joint[seen][:, hidden]


def errors(change, metropolis: bool) -> torch.Tensor:
    """Means and covariances of the chains' ends, in standard errors of independent exact draws."""
    made = oracle()
    system = LatentSystem(made.model, Gaussians(made, change), elbo)
    filled = impute(system, made.x, MASK, steps=300, chains=CHAINS, metropolis=metropolis)
    mean, covariance = conditional(made)
    ends = filled.x[..., ~MASK[0]]
    variance = covariance.diagonal()
    of_mean = (ends.mean(0) - mean) / (variance / CHAINS).sqrt()
    seen = torch.stack([torch.cov(ends[:, b].mT) for b in range(2)])
    of_covariance = (seen - covariance) / ((torch.outer(variance, variance) + covariance.square()) / CHAINS).sqrt()
    return torch.cat([of_mean.flatten(), of_covariance.flatten()])


@pytest.mark.statistical
@pytest.mark.parametrize("change", [exact, wrong, strata])
def test_the_corrected_chain_draws_from_the_conditional(change):
    """1,500 independent chains: 12 moments are normal deviates, 7e-6 of the seeds fail."""
    deviates("moments", errors(change, metropolis=True))


@pytest.mark.statistical
def test_without_the_correction_a_wrong_posterior_biases():
    """And an exact one does not: 12 normal deviates, 7e-6 of the seeds fail. The bias has its limit by the tail."""
    beyond("log10 bias, standard errors", errors(far, metropolis=False).abs().max().log10(), 1.0)
    deviates("exact", errors(exact, metropolis=False))


def test_an_exact_posterior_is_always_accepted():
    made = oracle()
    right, off = (LatentSystem(made.model, Gaussians(made, change), elbo) for change in (exact, wrong))
    torch.testing.assert_close(impute(right, made.x, MASK, steps=5, chains=3).accepted, torch.ones(2))
    share = impute(off, made.x, MASK, steps=20, chains=50).accepted
    assert ((share > 0.1) & (share < 0.95)).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_what_was_observed_stays_and_the_rest_is_of_its_kind(likelihood):
    model, batch = relu_model(likelihood)
    system = LatentSystem(model, AmortizedGaussian(methods.encoder(2 * methods.D)), elbo)
    mask = torch.rand(8, methods.P) < 0.5
    x = torch.where(mask, batch.x.double(), torch.nan)
    one, two = (impute(system, x, mask, steps=3, chains=4) for _ in range(2))
    assert torch.equal(one.x, two.x), "it repeats"
    assert one.x.shape == (4, 8, methods.P)
    assert torch.equal(one.x[:, mask], x[mask].expand(4, -1))
    assert one.x.isfinite().all()
    allowed = data_for(LIKELIHOODS[likelihood](methods.P).double(), 200).unique().double()
    assert likelihood.startswith("gaussian") or torch.isin(one.x, allowed).all()
    assert (one.x[0] != one.x[1])[~mask].any()


def test_nothing_missing_and_pictures():
    system = vae(DataSpec((1, 3, 2), "binary"), latent=2, hidden=8)
    x = torch.bernoulli(torch.full((5, 1, 3, 2), 0.5))
    assert torch.equal(impute(system, x, torch.ones_like(x, dtype=torch.bool), steps=2).x[0], x)


def test_many_data_run_in_parts(monkeypatch):
    monkeypatch.setattr("curvae.evaluation.samples.imputation.ROWS", 4)
    system = vae(DataSpec((4,)), latent=2, hidden=8)
    filled = impute(system, torch.randn(5, 4), torch.rand(5, 4) < 0.5, steps=2, chains=2)
    assert filled.x.shape == (2, 5, 4)
    assert filled.accepted.shape == (5,)


class NoDensity(Posterior):
    """Wraps a Gaussian, and does not show its density."""

    def __init__(self, q):
        self.q = q

    tensors = property(lambda self: self.q.tensors)
    center = mean = covariance = property(lambda self: self.q.mean)

    def with_tensors(self, tensors):
        return NoDensity(self.q.with_tensors(tensors))

    def draw(self, n, generator=None):
        return self.q.draw(n, generator)

    def _interval(self, level):
        return self.q.interval(level)


def test_misuse():
    system = vae(DataSpec((4,)), latent=2, hidden=8)
    x, mask = torch.randn(2, 4), torch.tensor([[True, False, True, True]]).expand(2, 4)
    with pytest.raises(ValueError, match="impute: steps must be 1 or more; got 0"):
        impute(system, x, mask, steps=0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        impute(system, torch.full_like(x, torch.nan), mask)
    made = oracle()
    hidden = LatentSystem(made.model, Gaussians(made, lambda *parts: NoDensity(exact(*parts))), elbo)
    with pytest.raises(ValueError, match=r"NoDensity has none\. Use metropolis=False"):
        impute(hidden, made.x, MASK)
    assert impute(hidden, made.x, MASK, steps=2, metropolis=False).x.isfinite().all()
    system.model.autoregressive = True
    with pytest.raises(ValueError, match="expected a model with autoregressive=False"):
        impute(system, x, mask)
