"""The exponentially tilted prior: its numbers, its divergence, its draws; the published stand-in for a divergence."""

import math

import pytest
import torch
from scipy import stats
from scipy.special import eval_genlaguerre

from curvae.distributions import DiagonalGaussian, FullGaussian, kl
from curvae.objectives import SphericalPenalty
from curvae.priors import TiltedNormal
from curvae.priors.tilted_normal import mean_norm
from zoo import relu_model

NUMBERS = [
    (2, 1, 1.49897, 0, 0.2457),
    (10, 3, 11.80155, 0, 2.5486),
    (10, 10, 66.02737, 9.5321, 11.5044),
    (10, 25, 336.4951, 24.8189, 19.4915),
    (100, 25, 460.3471, 22.9295, 98.307),
    (100, 40, 990.4518, 38.7415, 140.936),
]
"""D, tilt, log Z, the cheapest radius and the divergence there, found by others."""


def unit_at(size: int, radius: float) -> DiagonalGaussian:
    loc = torch.full((1, size), radius / math.sqrt(size), dtype=torch.float64)
    return DiagonalGaussian(loc, torch.zeros_like(loc))


@pytest.mark.parametrize(("size", "tilt", "log_z", "radius", "lowest"), NUMBERS)
def test_its_numbers(size, tilt, log_z, radius, lowest):
    prior = TiltedNormal(size, tilt)
    assert prior.log_normalizer == pytest.approx(log_z, abs=1e-4)
    assert prior.cheapest_radius() == pytest.approx(radius, abs=1e-3)
    assert kl(unit_at(size, prior.cheapest_radius()), prior).item() == pytest.approx(lowest, abs=1e-3)


@pytest.mark.parametrize("size", [1, 2, 10, 100])
@pytest.mark.parametrize("radius", [0.0, 1.0, 7.0, 1000.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_mean_norm_is_kummers(size, radius, dtype, tolerance):
    """By a generalized Laguerre function of degree 1/2, and its slope by one of degree -1/2."""
    loc = unit_at(size, radius).loc.to(dtype).requires_grad_()
    found = mean_norm(loc, torch.ones_like(loc))
    half = size / 2
    expected = math.sqrt(math.pi / 2) * eval_genlaguerre(0.5, half - 1, -(radius**2) / 2)
    assert found.item() == pytest.approx(expected, rel=tolerance)
    slope = math.sqrt(math.pi / 2) * radius * eval_genlaguerre(-0.5, half, -(radius**2) / 2)
    (gradient,) = torch.autograd.grad(found.sum(), loc)
    assert gradient.norm().item() == pytest.approx(slope, rel=10 * tolerance, abs=10 * tolerance)


def test_divergence_of_any_gaussian_is_that_of_its_draws():
    """Diagonal and full, of unequal variances; 6 standard errors, failure rate below 1e-8 each."""
    prior, generator = TiltedNormal(3, 2.5).double(), torch.Generator().manual_seed(0)
    loc = torch.randn(5, 3, dtype=torch.float64)
    scale = 0.5 * torch.randn(5, 3, dtype=torch.float64)
    factors = (0.6 * torch.randn(5, 3, 3, dtype=torch.float64)).tril()
    for q in (DiagonalGaussian(loc, scale), FullGaussian(loc, factors)):
        draws = q.draw(200_000, generator)
        terms = draws.log_q - prior.log_prob(draws.z)
        error = terms.std(0) / len(terms) ** 0.5
        assert ((kl(q, prior).squeeze(-1) - terms.mean(0)).abs() < 6 * error).all()


def test_without_tilt_it_is_the_standard_normal():
    prior, q = TiltedNormal(4, 0.0).double(), unit_at(4, 2.0)
    assert kl(q, prior).item() == pytest.approx(2.0)
    z = torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(z), stats_normal(z))
    torch.testing.assert_close(prior.score(z), -z)


def stats_normal(z: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)


@pytest.mark.parametrize(("size", "tilt"), [(1, 0.0), (1, 3.0), (2, 1.0), (10, 10.0), (100, 25.0)])
def test_radii_of_draws_follow_their_density(size, tilt):
    """Kolmogorov and Smirnov's distance to the distribution function by quadrature; failure rate 1e-6."""
    draws = TiltedNormal(size, tilt).double().sample(20_000, torch.Generator().manual_seed(1))
    radii = draws.norm(dim=-1)
    nodes = torch.linspace(1e-9, float(radii.max()) + 5, 200_001, dtype=torch.float64)
    density = ((size - 1) * nodes.log() + tilt * nodes - nodes.square() / 2).softmax(0)
    function = density.cumsum(0)
    expected = function[torch.searchsorted(nodes, radii).clamp(max=len(nodes) - 1)]
    assert stats.kstest(expected.numpy(), "uniform").pvalue > 1e-6


def test_directions_of_draws_are_uniform():
    """First and second moments of the unit vectors, within 6 errors."""
    draws = TiltedNormal(3, 5.0).double().sample(50_000, torch.Generator().manual_seed(2))
    units = draws / draws.norm(dim=-1, keepdim=True)
    assert (units.mean(0).abs() < 6 * (1 / 3 / 50_000) ** 0.5).all()
    second = units.mT @ units / len(units)
    assert ((second - torch.eye(3) / 3).abs() < 6 * 0.3 / 50_000**0.5).all()


def test_score_and_precision_at_the_origin_are_finite():
    prior, zero = TiltedNormal(3, 2.0), torch.zeros(2, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(prior.log_prob(zero).sum(), zero)
    assert slope.isfinite().all()
    assert prior.score(zero).isfinite().all()
    assert prior.precision(zero).isfinite().all()


def test_the_penalty_is_no_divergence():
    """Near it but for a constant where the tilt is large; far too steep where it is below sqrt(D)."""
    for tilt, ratio in ((25.0, 0.986), (3.0, 0.075)):
        prior = TiltedNormal(10, tilt)
        radius, step = prior.cheapest_radius(), 0.05
        low, middle, high = (kl(unit_at(10, abs(radius + by)), prior).item() for by in (-step, 0.0, step))
        assert (low - 2 * middle + high) / step**2 == pytest.approx(ratio, abs=5e-3)
        assert middle > 2


def test_the_penalty_is_trained_with_and_the_bound_reported():
    model, batch = relu_model(prior=TiltedNormal(3, 4.0))
    loc = torch.randn(8, 3, dtype=torch.float64)
    q = DiagonalGaussian(loc, torch.zeros_like(loc))
    bound = SphericalPenalty(3.0)(model, q, batch, 4)
    gap = kl(q, model.prior).squeeze(-1) - 0.5 * (loc.norm(dim=-1) - 3).square()
    torch.testing.assert_close(bound.surrogate - bound.value, gap)


@pytest.mark.parametrize("arguments", [(0, 1.0), (2, -1.0), (2, math.inf), (2, math.nan)])
def test_refused(arguments):
    with pytest.raises(ValueError, match="expected size >= 1 and a finite tilt >= 0; got"):
        TiltedNormal(*arguments)
