"""The common proposal: how wide it is, and that it is the same with the precision formed and without."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from curvae.data import ArrayTable
from curvae.evaluation import common_proposal, score, summarize
from curvae.evaluation.likelihood.proposal import widen, width_for
from curvae.inference import AmortizedGaussian, AveragedCurvature, MatrixFreeLaplace
from curvae.objectives import elbo
from curvae.posteriors import ImplicitGaussian, PrecisionGaussian, StudentMixture
from curvae.systems import LatentSystem
from zoo import D, LinearGaussian, P


def exact_posterior(oracle: LinearGaussian) -> PrecisionGaussian:
    factor = torch.linalg.cholesky(oracle.precision())
    return PrecisionGaussian(oracle.mean(), factor.expand(len(oracle.x), *factor.shape))


def test_an_implicit_gaussian_is_widened_as_the_formed_one():
    oracle = LinearGaussian()
    inference = MatrixFreeLaplace(AmortizedGaussian(nn.Linear(P, 2 * D).double()), steps=3, dense=0)
    q = inference(oracle.model, oracle.batch).posterior
    assert isinstance(q, ImplicitGaussian)
    formed = exact_posterior(oracle)
    q = q.with_tensors({**q.tensors, "log_det": torch.linalg.slogdet(formed.precision)[1], "loc": formed.loc})
    wide, theirs = widen(q, 1.7), widen(formed, 1.7)
    z = torch.randn(5, 8, D).double()
    torch.testing.assert_close(wide.log_prob(z), theirs.log_prob(z))
    torch.testing.assert_close(wide.covariance, theirs.covariance)
    torch.testing.assert_close(wide.variance, theirs.variance)
    assert wide.with_tensors({name: value[:3] for name, value in wide.tensors.items()}).width == 1.7
    draws = wide.draw(4000)
    torch.testing.assert_close(draws.log_q, wide.log_prob(draws.z))
    found = torch.einsum("sbi,sbj->bij", *[draws.z - wide.mean] * 2) / 4000
    torch.testing.assert_close(found, wide.covariance, atol=0.15, rtol=0.15)
    assert widen(wide, 2.0).width == pytest.approx(3.4)


def test_rounds_of_averaged_curvature_may_follow_the_search():
    """Where q is exact they change nothing, and the width is the common one; elsewhere they are taken."""
    oracle, rounds = LinearGaussian(), AveragedCurvature(2)
    system = LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(P, 2 * D).double()), elbo)
    with torch.no_grad():
        averaged = common_proposal(system, average=rounds)(oracle.model, oracle.batch)
    exact = exact_posterior(oracle)
    torch.testing.assert_close(averaged.posterior.mean, exact.mean)
    torch.testing.assert_close(averaged.posterior.covariance, 1.3 * exact.covariance)
    assert averaged.info["accepted"].shape == (2, 8)


def test_of_few_latents_it_has_every_mode_and_looks_beyond():
    """85 % of its weight is the posterior where that is Gaussian, widened; a sixth of its draws go far further."""
    oracle = LinearGaussian()
    system = LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(P, 2 * D).double()), elbo)
    with torch.no_grad():
        q = common_proposal(system)(oracle.model, oracle.batch).posterior
    exact = exact_posterior(oracle)
    assert isinstance(q, StudentMixture)
    torch.testing.assert_close(q.mean, exact.mean)
    torch.testing.assert_close(q.covariance, (0.85 + 0.15 * 9) * 1.3 * exact.covariance)
    count = q.logits.shape[-1] // 2
    torch.testing.assert_close(q.weights[:, count:].sum(-1), torch.full((8,), 0.15).double())


def test_hundreds_of_latents_can_be_evaluated(monkeypatch: pytest.MonkeyPatch):
    """300 latents, with the precision formed and without; then the error of its determinant is in that of log p(x)."""
    oracle = LinearGaussian(size=300, count=4)
    system = LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(P, 600).double()), elbo)
    table = ArrayTable(oracle.x)
    oracle.x = table.x.double()
    for large in (2048, 256):
        for place in ("proposal", "scores"):
            monkeypatch.setattr(f"curvae.evaluation.likelihood.{place}.LARGE", large)
        with torch.no_grad():
            formed = common_proposal(system)(oracle.model, oracle.batch).posterior
        assert isinstance(formed, PrecisionGaussian if large == 2048 else ImplicitGaussian)
        found = score(system, table, samples=400, memory=2**25)
        miss = np.abs(found["log_likelihood"] - oracle.log_evidence().numpy())
        assert (found["ess_laplace"] > 100).all()
        assert (miss < 5 * found["stderr_best"]).all()
        assert (found["stderr_laplace"] < (0.15 if large == 2048 else 0.7)).all()
        result = summarize(found)
        assert any("normalizer of the common proposal" in said for said in result.warnings) == (large == 256)


def test_the_width_keeps_the_cost_of_widening():
    for latents in (16, 64, 256, 1600):
        width = width_for(latents)
        assert 0.5 < (math.sqrt(2 * width - 1) / width) ** latents < 0.7
