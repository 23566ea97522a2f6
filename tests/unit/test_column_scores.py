"""Each column given the others of its row, against a Gaussian whose conditionals are known."""

import pytest
import torch
from torch import nn

from chance import deviates
from curvae.evaluation.ood import column_scores
from curvae.inference import ConstantGaussian, Laplace
from curvae.likelihoods import Categorical, Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem

P = 5


def system(likelihood=None):
    """PPCA of two latents; its posterior is exact, also where values are missing."""
    likelihood = likelihood or Gaussian(P, scale=0.5)
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, likelihood.size), likelihood)
    return LatentSystem(model, Laplace(ConstantGaussian(2), steps=1), elbo).double()


def conditional(made, x, j, others):
    """Mean and variance of x_j given the other columns that are seen."""
    weight, bias = made.model.decoder.weight.detach(), made.model.decoder.bias.detach()
    covariance = weight @ weight.mT + 0.25 * torch.eye(P, dtype=torch.float64)
    gain = covariance[j, others] @ torch.linalg.inv(covariance[others][:, others])
    return bias[j] + (x[:, others] - bias[others]) @ gain, covariance[j, j] - gain @ covariance[others, j]


@pytest.mark.statistical
def test_they_are_the_conditionals_of_a_gaussian():
    """40 standard normal deviates in the mean, and as many in the density to first order: 5e-5 of the seeds fail."""
    made, count = system(), 20_000
    x = made.model.sample(8)[0].detach()
    found = column_scores(made, x, draws=count)
    for j in range(P):
        others = [k for k in range(P) if k != j]
        mean, variance = conditional(made, x, j, others)
        weight = made.model.decoder.weight.detach()[j]
        inner = torch.linalg.inv(_precision(made, others))
        spread = weight @ inner @ weight  # of E[x_j | z] under the posterior of the others
        deviates("mean", (found.expected[:, j] - mean) / (spread / count).sqrt())
        law = torch.distributions.Normal(mean, variance.sqrt())
        torch.testing.assert_close(found.log_prob[:, j], law.log_prob(x[:, j]), atol=0.1, rtol=0)
        torch.testing.assert_close(found.deviations[:, j], (x[:, j] - mean) / variance.sqrt(), atol=0.05, rtol=0.05)


def _precision(made, others):
    weight = made.model.decoder.weight.detach()[others]
    return torch.eye(2, dtype=torch.float64) + weight.mT @ weight / 0.25


def test_what_is_missing_is_no_evidence():
    """The same numbers whatever stands there, and NaN for it."""
    made = system()
    x, mask = torch.randn(6, P, dtype=torch.float64), torch.rand(6, P) < 0.6
    one, other = (column_scores(made, torch.where(mask, x, v), mask, draws=50) for v in (0.0, 99.0))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
        assert torch.equal(a.isnan(), ~mask)


def test_a_wrong_column_is_the_one_that_is_named():
    """Eight noise deviations added to one column of a row: it is the most unusual of the row, and others are not."""
    made = system()
    nn.init.normal_(made.model.decoder.weight, std=1.0)
    x = made.model.sample(50)[0].detach()
    wrong = torch.randint(P, (50,))
    x[torch.arange(50), wrong] += 4.0
    found = column_scores(made, x)
    assert (found.log_prob.argmin(1) == wrong).float().mean() > 0.8


def test_categories_have_a_density_alone():
    made = system(Categorical(P, categories=3))
    x = torch.randint(3, (4, P)).double()
    found = column_scores(made, x, draws=20)
    assert found.log_prob.isfinite().all()
    assert found.deviations.isnan().all()


def test_it_refuses_what_has_no_answer():
    with pytest.raises(ValueError, match="column_scores: draws must be 2 or more; got 1"):
        column_scores(system(), torch.randn(2, P, dtype=torch.float64), draws=1)
