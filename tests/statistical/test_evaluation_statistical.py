"""The estimator where it has error: does it know how large?"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from chance import beyond, deviates, means, p_value, repetitions, within
from curvae.data import ArrayTable
from curvae.evaluation import khat, posterior_weights, score
from curvae.evaluation.likelihood.importance import estimates
from curvae.evaluation.likelihood.proposal import widen
from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, PrecisionGaussian
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from zoo import D, LinearGaussian, TwoModes

pytestmark = pytest.mark.statistical


def test_a_detuned_diagonal_posterior_is_corrected():
    """The evidence of 20 examples, and their ELBO by its closed form: 40 normal deviates, 2e-5 of the seeds fail.

    The posterior is 1.2 times as wide as the exact one in its widest direction: weights are bounded.
    """
    oracle = LinearGaussian(count=20)
    q = oracle.covering()
    with torch.no_grad():
        weights = posterior_weights(oracle.model, q, oracle.batch, 2000, memory=2**20)
    found, exact = estimates(weights), oracle.log_evidence().numpy()
    ratio = oracle.precision() * q.variance[0]
    divergence = 0.5 * (ratio.trace() - D - ratio.logdet()).item()
    deviates("log p(x)", (found.log_likelihood - exact) / found.stderr)
    means("ELBO", weights.log_w, exact - divergence)
    within("error", found.stderr, 0.15)
    within("k-hat", found.khat, 0.7)


def test_the_standard_error_is_that_of_repetitions():
    """Over 400 repetitions: their squares in units of the claim are a chi-square of 399, 1e-6 of the seeds fail."""
    oracle = LinearGaussian(count=1)
    q = widen(PrecisionGaussian(oracle.mean(), torch.linalg.cholesky(oracle.precision())[None]), 2.0)
    repeated = PrecisionGaussian(q.loc.expand(400, D), q.factor.expand(400, D, D))
    batch = oracle.batch._replace(x=oracle.x.expand(400, -1))
    with torch.no_grad():
        found = estimates(posterior_weights(oracle.model, repeated, batch, 200))
    p_value("error", repetitions(found.log_likelihood, found.stderr))


def test_khat_tells_a_narrow_proposal_from_a_good_one():
    """In one dimension the true shape is 1 - width where width < 1; limits by the tails over 200 seeds."""
    oracle = LinearGaussian(size=1, count=40)
    exact = PrecisionGaussian(oracle.mean(), torch.linalg.cholesky(oracle.precision()).expand(40, 1, 1))
    with torch.no_grad():
        narrow = estimates(posterior_weights(oracle.model, widen(exact, 0.02), oracle.batch, 2000))
        good = estimates(posterior_weights(oracle.model, widen(exact, 1.1), oracle.batch, 2000))
    beyond("share of narrow ones above 0.7", (narrow.khat > 0.7).mean(), 0.5)
    within("k-hat of the good one", good.khat, 0.5)
    within("narrow ESS over good ESS", narrow.ess / good.ess, 0.8)


def test_khat_of_known_tails(rng):
    """Mean of 100 fits to 1,000 draws, less its prior's pull towards 0.5; limit by the tail over 200 seeds."""
    for shape in (0.2, 0.5, 0.9):
        weights = (1 - rng.random((1000, 100))) ** -shape
        tail = int(3 * math.sqrt(1000))
        expected = (tail * shape + 10 * 0.5) / (tail + 10)
        within("k-hat", abs(khat(np.log(weights)).mean() - expected), 0.1)


class Curve(nn.Module):
    """One mode, far from a Gaussian."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z.sinh(), nn.functional.softplus(3 * z)], -1)


def test_a_curved_model_against_quadrature(seed):
    """Own and defensive proposal on 20 examples of z from -1 to 1: 40 normal deviates, 2e-5 of the seeds fail.

    There the prior, which the encoder gives, puts a tenth of its draws on the posterior, and bounds the weights of the
    mixture with the Laplace posterior. Alone that has weights of no finite variance where the decoder is flat below.
    """
    model = LatentVariableModel(StandardNormal(1), Curve(), Gaussian(2, scale=0.5)).double()
    with torch.no_grad():
        x = model.decoder(torch.linspace(-1, 1, 20).double()[:, None])
    encoder = nn.Linear(2, 2).double()
    nn.init.zeros_(encoder.weight)
    nn.init.zeros_(encoder.bias)
    table = ArrayTable(x + 0.5 * torch.randn(20, 2).double())
    found = score(LatentSystem(model, AmortizedGaussian(encoder), elbo), table, samples=4000, seed=seed, memory=2**20)
    grid = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    joint = model.log_joint(table.x.double(), grid[:, None, None].expand(-1, 20, 1))
    exact = (joint.logsumexp(0) + math.log(grid[1] - grid[0])).detach().numpy()
    for name in ("own", "defensive"):
        deviates(name, (found[f"log_likelihood_{name}"] - exact) / found[f"stderr_{name}"])
        within(f"error of {name}", found[f"stderr_{name}"], 0.1)


def test_two_modes_are_covered_by_a_broad_posterior():
    """Against quadrature: 3 normal deviates, 2e-6 of the seeds fail. Wider than the prior, so weights are bounded."""
    oracle = TwoModes()
    count = len(oracle.x)
    q = DiagonalGaussian(torch.zeros(count, 1).double(), torch.full((count, 1), math.log(1.2)).double())
    with torch.no_grad():
        found = estimates(posterior_weights(oracle.model, q, oracle.batch, 10_000))
    deviates("log p(x)", (found.log_likelihood - oracle.log_evidence().numpy()) / found.stderr)


def test_chunked_draws_agree_with_unchunked_ones():
    """Means over 50 examples of two independent estimates: one normal deviate, 6e-7 of the seeds fail."""
    oracle = LinearGaussian(scale=1.0, count=50)
    with torch.no_grad():
        whole, parts = (
            estimates(posterior_weights(oracle.model, oracle.covering(), oracle.batch, 1000, memory))
            for memory in (2**30, 2**18)
        )
    error = math.sqrt(np.square(whole.stderr).sum() + np.square(parts.stderr).sum()) / 50
    deviates("difference", (whole.log_likelihood.mean() - parts.log_likelihood.mean()) / error)
