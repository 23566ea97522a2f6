"""Every posterior: weights of draws, density, moments, rebuilding from its tensors."""

import pytest
import torch

import methods
from curvae.distributions.gaussian import GaussianPosterior
from curvae.distributions.moments import DRAWS
from curvae.posteriors import DensityPosterior, DrawnPosterior, RotatedPosterior, kl, weighted_mean
from curvae.priors import StandardNormal
from ingredients import uniform_over

COUNT = 8


@pytest.fixture(params=methods.POSTERIORS)
def posterior(request):
    return methods.posterior(request.param, COUNT)


def test_draws(posterior):
    draws = posterior.draw(5)
    assert draws.z.shape == (posterior.count(5), COUNT, posterior.center.shape[-1])
    assert draws.log_q.shape == draws.log_c.shape == (posterior.count(5), COUNT)
    torch.testing.assert_close(torch.logsumexp(draws.log_c, 0), torch.zeros(COUNT, dtype=torch.float64))


def test_generator_repeats(posterior):
    one, two = (posterior.draw(2, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.z, two.z)


def test_density_is_that_of_the_draws(posterior):
    if isinstance(posterior, DensityPosterior):
        draws = posterior.draw(5)
        torch.testing.assert_close(posterior.log_prob(draws.z), draws.log_q, atol=1e-10, rtol=1e-10)


def test_against_torch_distributions(posterior):
    if isinstance(posterior, GaussianPosterior):
        oracle = torch.distributions.MultivariateNormal(posterior.mean, posterior.covariance)
        draws = posterior.draw(5)
        torch.testing.assert_close(draws.log_q, oracle.log_prob(draws.z), atol=1e-9, rtol=1e-9)


def test_rebuilt_from_its_tensors(posterior):
    tensors = posterior.tensors
    assert all(value.shape[0] == COUNT for value in tensors.values())
    again = posterior.with_tensors(tensors)
    part = posterior.with_tensors({name: value[2:3] for name, value in tensors.items()})
    torch.testing.assert_close(again.covariance, posterior.covariance)
    torch.testing.assert_close(part.mean, posterior.mean[2:3])
    assert part.center.shape == part.mean.shape


def test_path_gradient_reaches_every_tensor(posterior):
    tensors = {name: value.clone().requires_grad_(True) for name, value in posterior.tensors.items()}
    draws = posterior.with_tensors(tensors).draw(3)
    gradients = torch.autograd.grad(draws.z.square().sum() + draws.log_q.sum(), list(tensors.values()))
    assert all((gradient != 0).any() for gradient in gradients)


def test_still_a_density_where_its_free_tensors_are_moved(posterior):
    """E_q[p / q] = 1 for any narrower p, or p over all values of a discrete z.

    Failure rate below 1e-5 (6 standard errors over 8 data); where all values of z are drawn the rest is rounding.
    """
    tensors = posterior.tensors
    assert set(posterior.free) <= set(tensors)
    if not isinstance(posterior, DensityPosterior):
        return
    step = {name: 0.2 * torch.randn_like(tensors[name]) for name in posterior.free}
    moved = posterior.with_tensors({**tensors, **{name: tensors[name] + value for name, value in step.items()}})
    draws = moved.draw(20_000, torch.Generator().manual_seed(4))
    if posterior.continuous:
        log_p = torch.distributions.Normal(moved.center, 0.2).log_prob(draws.z).sum(-1)
    else:
        log_p = uniform_over(posterior).log_prob(draws.z)
    terms = (draws.log_c + log_p - draws.log_q).exp()
    error = terms.std(0) * len(terms) ** 0.5
    assert ((terms.sum(0) - 1).abs() < 6 * error + 1e-12).all()


def test_moments_and_interval(posterior):
    """Failure rate below 1e-5: 6 standard errors over 8 x 3 means and coverages; moments may be those of draws."""
    count = 20_000
    error = (1 / count + (1 / DRAWS if isinstance(posterior, DrawnPosterior | RotatedPosterior) else 0)) ** 0.5
    draws = posterior.draw(count, torch.Generator().manual_seed(5))
    scale = posterior.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert ((weighted_mean(draws) - posterior.mean).abs() < 6 * scale * error).all()
    low, high = posterior.interval(0.8)
    inside = weighted_mean(draws._replace(z=((draws.z >= low) & (draws.z <= high)).double()))
    assert (inside - 0.8 > -6 * 0.4 * error).all()
    within = weighted_mean(draws._replace(z=((draws.z > low) & (draws.z < high)).double()))
    assert (within - 0.8 < 6 * 0.4 * error).all(), "not wider than it need be"


def test_kl_closed_form(posterior):
    """Against Monte Carlo; failure rate below 1e-5 (6 standard errors over 8 data)."""
    prior = StandardNormal(methods.D) if posterior.continuous else uniform_over(posterior)
    closed = kl(posterior, prior)
    if closed is None:
        return
    draws = posterior.draw(20_000, torch.Generator().manual_seed(6))
    sampled = draws.log_q - prior.log_prob(draws.z)
    error = sampled.std(0) / 20_000**0.5
    assert closed.shape == (COUNT, 1)
    assert ((closed[:, 0] - sampled.mean(0)).abs() < 6 * error + 1e-9).all()


def test_misuse(posterior):
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1; got 90"):
        posterior.interval(90)
