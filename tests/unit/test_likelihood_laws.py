"""Likelihoods against SciPy's laws, their own parameters against the likeliest ones, their bounds and limits."""

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.autograd.functional import hessian

import methods
from curvae.inference import ConstantGaussian, Laplace
from curvae.likelihoods import (
    Bernoulli,
    Beta,
    DiscretizedLogistic,
    Gamma,
    Gaussian,
    LogNormal,
    Mixed,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
)
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from curvae.typing import Batch

SHAPE = 1.7


def laws(eta):
    """Likelihood, and SciPy's law of each element."""
    m, mu = eta.sigmoid().numpy(), eta.exp().numpy()
    return [
        (Poisson(3), stats.poisson(mu)),
        (NegativeBinomial(3, dispersion=SHAPE), stats.nbinom(1 / SHAPE, 1 / (1 + SHAPE * mu))),
        (StudentT(3, scale=SHAPE, df=3.0), stats.t(3.0, eta.numpy(), SHAPE)),
        (LogNormal(3, scale=SHAPE), stats.lognorm(SHAPE, scale=mu)),
        (Gamma(3, shape=SHAPE), stats.gamma(SHAPE, scale=mu / SHAPE)),
        (Beta(3, concentration=SHAPE), stats.beta(m * SHAPE, (1 - m) * SHAPE)),
    ]


@pytest.mark.parametrize("number", range(6))
def test_log_prob_is_that_of_the_law(number):
    eta = torch.tensor([-1.0, 0.2, 1.5], dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        likelihood, law = laws(eta)[number]
    finally:
        torch.set_default_dtype(torch.float32)
    x = law.rvs(size=(50, 3), random_state=0)
    density = law.logpmf(x) if number < 2 else law.logpdf(x)
    found = likelihood.log_prob(torch.as_tensor(x, dtype=torch.float64), eta.expand(50, 3))
    tolerance = 1e-4 if number == 5 else 1e-9  # the mean of Beta stays 1e-6 away from its ends
    torch.testing.assert_close(found, torch.as_tensor(density).sum(-1), atol=tolerance, rtol=1e-9)


def test_counts_in_single_precision_lose_nothing():
    """At 100,000 the terms of the mass are of the size of 10^6, whose last digit in float32 is 0.06."""
    x, eta = torch.full((1, 1), 1e5), torch.full((1, 1), math.log(1.001e5))
    for likelihood, law in (
        (Poisson(1), stats.poisson(float(eta.double().exp()))),
        (NegativeBinomial(1, 1e-5), stats.nbinom(1e5, 1 / (1 + 1e-5 * float(eta.double().exp())))),
    ):
        assert likelihood.log_prob(x, eta).item() == pytest.approx(law.logpmf(1e5), abs=1e-3)


def test_a_dispersion_of_nothing_is_a_poisson_law():
    x, eta = torch.arange(30.0).unsqueeze(-1), torch.full((30, 1), 1.3)
    nearly = NegativeBinomial(1, 1.1e-6)
    torch.testing.assert_close(nearly.log_prob(x, eta), Poisson(1).log_prob(x, eta), atol=1e-3, rtol=0)
    torch.testing.assert_close(nearly.score(x, eta), Poisson(1).score(x, eta), atol=1e-3, rtol=0)


def test_no_more_zeros_are_those_of_the_counts():
    x, eta = torch.arange(20.0).unsqueeze(-1), torch.tensor([[0.7, -40.0]]).expand(20, 2)
    found = ZeroInflatedNegativeBinomial(1, 0.4).log_prob(x, eta)
    torch.testing.assert_close(found, NegativeBinomial(1, 0.4).log_prob(x, eta[:, :1]))


OWN = {
    "negative-binomial": ("dispersion", 0.4),
    "negative-binomial-shared": ("dispersion", 0.4),
    "gamma": ("shape", 2.5),
    "beta": ("concentration", 20.0),
    "student-t": ("scale", 0.7),
    "discretized-logistic": ("scale", 0.5),
}


@pytest.mark.parametrize("name", OWN)
def test_parameters_of_its_own_become_the_likeliest(name):
    """From three times too much: nothing a hundredth of it away is likelier, element by element."""
    attribute, right = OWN[name]
    likelihood = methods.LIKELIHOODS[name](2).double()
    eta = torch.randn(2, 30_000, likelihood.size, dtype=torch.float64)
    x = likelihood.sample(eta[:1].expand(1, -1, -1))[0].detach()
    own, mask = getattr(likelihood, attribute), torch.rand(30_000, 2) < 0.8
    own.put(torch.full((2,), 3 * right, dtype=torch.float64))
    likelihood.maximize(x, eta[:1], mask)
    torch.testing.assert_close(own.value, torch.full_like(own.value, right), rtol=0.15, atol=0)
    best, best_value = likelihood.log_prob(x, eta[0], mask).sum(), own.value.detach().clone()
    for factor in (0.99, 1.01):
        own.put(best_value * factor)
        assert likelihood.log_prob(x, eta[0], mask).sum() < best


@pytest.mark.parametrize("name", OWN)
def test_parameters_of_its_own_start_from_the_data(name):
    """Within a factor of two of the truth, where all rows have one eta; a start that was given is kept."""
    attribute, right = OWN[name]
    likelihood = methods.LIKELIHOODS[name](2).double()
    x = likelihood.sample(torch.full((4000, likelihood.size), 0.3, dtype=torch.float64)).detach()
    likelihood.initialize(x)
    assert getattr(likelihood, attribute).value[0].item() == pytest.approx(right, rel=1e-6)
    likelihood.starts_from_data = True
    likelihood.initialize(x)
    assert right / 2 < getattr(likelihood, attribute).value[0] < 2 * right


def test_a_fixed_parameter_stays():
    likelihood = NegativeBinomial(2, 0.7, learn=None)
    likelihood.maximize(torch.ones(5, 2), torch.zeros(5, 2))
    likelihood.initialize(torch.ones(5, 2))
    assert likelihood.dispersion.value.item() == pytest.approx(0.7)
    assert not list(likelihood.parameters())


def test_counts_that_vary_too_little_end_at_the_floor():
    likelihood = NegativeBinomial(1, floor=1e-4)
    likelihood.maximize(torch.full((100, 1), 3.0), torch.full((100, 1), math.log(3.0)))
    assert likelihood.dispersion.value.item() < 1e-3


@pytest.mark.parametrize("name", ["student-t", "ordinal", "discretized-logistic"])
def test_the_bound_is_above_every_curvature(name):
    likelihood = methods.LIKELIHOODS[name](1).double()
    x = likelihood.sample(torch.randn(300, 1, dtype=torch.float64))
    bound = likelihood.bound(torch.ones(1, 1, dtype=torch.float64)).square()
    for value in x:
        for eta in torch.randn(3, 1, dtype=torch.float64):
            assert -hessian(lambda e, value=value: likelihood.log_prob(value, e), eta) <= bound + 1e-9


def test_thresholds_start_at_the_shares():
    likelihood = Ordinal(2, categories=4).double()
    x = torch.multinomial(torch.tensor([0.1, 0.2, 0.3, 0.4]), 20_000, replacement=True).reshape(-1, 2).double()
    likelihood.initialize(x)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    for category, share in enumerate((0.1, 0.2, 0.3, 0.4)):
        each = likelihood.log_prob(torch.full((1, 2), float(category)), zero).exp()
        assert each.item() == pytest.approx(share**2, rel=0.1)


def test_an_ordinal_start_has_the_slopes_of_the_ranks():
    """Nearly: ranks are coarse, so that the largest slopes come out at 0.8 of what they are (0.82 to 1.09, 4 seeds)."""
    slopes = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 1.0, 2.0])
    likelihood = Ordinal(8, categories=9)
    x = likelihood.sample(torch.randn(4000, 1) * slopes)
    (model,) = likelihood.linear_fits(x, 1)
    weight, _ = likelihood.start_from(model)
    ratio = weight[:, 0].abs() / slopes
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3


def test_the_ends_of_a_grid_reach_to_infinity():
    likelihood = DiscretizedLogistic(1, 0.0, 1.0, levels=3, scale=0.1)
    for eta, value in ((-30.0, 0.0), (30.0, 1.0)):
        assert likelihood.log_prob(torch.tensor([[value]]), torch.tensor([[eta]])).item() == pytest.approx(0, abs=1e-6)


def test_mixed_columns_are_those_of_their_parts():
    likelihood = Mixed([(Gaussian(2), [2, 0]), (Bernoulli(1), [1])])
    x, eta = torch.tensor([[0.3, 1.0, -2.0]]), torch.tensor([[0.1, 0.2, 0.7]])
    expected = Gaussian(2).log_prob(x[:, [2, 0]], eta[:, :2]) + Bernoulli(1).log_prob(x[:, [1]], eta[:, 2:])
    torch.testing.assert_close(likelihood.log_prob(x, eta), expected)
    torch.testing.assert_close(likelihood.mean(eta), torch.tensor([[0.2, torch.tensor(0.7).sigmoid(), 0.1]]))
    assert likelihood.information == "diagonal"
    with pytest.raises(ValueError, match=r"Mixed: expected each of the columns 0 .. E - 1 once; got \[0, 2\]"):
        Mixed([(Gaussian(1), [0]), (Gaussian(1), [2])])
    with pytest.raises(ValueError, match=r"expected a likelihood of 2 columns; got Gaussian of \(1,\)"):
        Mixed([(Gaussian(1), [0, 1])])


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match=r"expected a value above 0.001; got 0.0001"):
        StudentT(2, scale=1e-4)
    with pytest.raises(ValueError, match="Ordinal: at least two categories are needed; got 1"):
        Ordinal(2, categories=1)
    with pytest.raises(ValueError, match="DiscretizedLogistic: expected low < high and 2 levels or more"):
        DiscretizedLogistic(2, 1.0, 0.0)


@pytest.mark.parametrize("name", methods.LIKELIHOODS)
def test_laplace_intervals_hold_their_mass(name):
    """90 % of one latent behind 16 columns, against the exact posterior on a grid: 85 to 95 % on average of 40 data."""
    likelihood = methods.LIKELIHOODS[name](16)
    model = LatentVariableModel(StandardNormal(1), nn.Linear(1, likelihood.size), likelihood).double()
    nn.init.normal_(model.decoder.weight, std=0.5)
    x = model.sample(40)[0].detach().double()
    inference = Laplace(ConstantGaussian(1), steps=20).double()
    with torch.no_grad():
        q = inference(model, Batch.of(x)).posterior
        low, high = q.interval(0.9)
        grid = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None, None].expand(-1, 40, 1)
        mass = model.log_joint(x, grid).softmax(0)
        inside = (mass * ((grid > low) & (grid < high)).squeeze(-1)).sum(0)
    assert 0.85 < inside.mean() < 0.95
