"""Families of distributions that layers are made of, against torch and draws."""

import pytest
import torch

from zoo import FAMILIES


def dense(name: str, phi: torch.Tensor) -> torch.distributions.Distribution:
    match name:
        case "fixed":
            return torch.distributions.Independent(torch.distributions.Normal(phi, 0.6), 1)
        case "learned":
            scale = (7 * torch.tanh(phi[:, 3:] / 7)).exp()
            return torch.distributions.Independent(torch.distributions.Normal(phi[:, :3], scale), 1)
        case _:
            groups = torch.distributions.OneHotCategorical(logits=phi.unflatten(-1, (2, 3)))
            return torch.distributions.Independent(groups, 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_against_torch_distributions(name):
    """Density, divergence (at least 0, and 0 from itself), mean and variance."""
    family = FAMILIES[name]
    one, two = torch.randn(2, 5, family.parameters, dtype=torch.float64)
    p, q = dense(name, one), dense(name, two)
    z = p.sample()
    torch.testing.assert_close(family.log_prob(z.flatten(1), one), p.log_prob(z))
    expected = torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(family.divergence(one, two), expected)
    assert (expected > 0).all()
    torch.testing.assert_close(family.divergence(one, one), torch.zeros(5, dtype=torch.float64), atol=1e-15, rtol=0)
    torch.testing.assert_close(family.mean(one), p.mean.flatten(1))
    torch.testing.assert_close(family.variance(one), p.variance.flatten(1))
    torch.testing.assert_close(family.covariance(one).diagonal(dim1=-2, dim2=-1), p.variance.flatten(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_of_a_family(name):
    """Mean and covariance of 50,000; failure rate below 1e-5 (6 standard errors of at most 42 numbers)."""
    family, count = FAMILIES[name], 50_000
    phi = torch.randn(family.parameters, dtype=torch.float64)
    z = family.sample(torch.randn(count, family.size, dtype=torch.float64), phi.expand(count, -1))
    variance, covariance = family.variance(phi), family.covariance(phi)
    assert ((z.mean(0) - family.mean(phi)).abs() < 6 * (variance / count).sqrt()).all()
    each = (z - family.mean(phi)).unsqueeze(-1) * (z - family.mean(phi)).unsqueeze(-2)
    assert ((each.mean(0) - covariance).abs() < 6 * each.std(0) / count**0.5 + 1e-12).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_residual_is_the_root_of_the_expected_information(name):
    """E over z of -Hessian of log p(z | phi) in phi, by draws of the score; 6 standard errors."""
    family, count = FAMILIES[name], 40_000
    phi = torch.randn(family.parameters, dtype=torch.float64)
    z = family.sample(torch.randn(count, family.size, dtype=torch.float64), phi.expand(count, -1))
    score_of = torch.func.vmap(torch.func.grad(family.log_prob, argnums=1), in_dims=(0, None))(z, phi)
    each = score_of.unsqueeze(-1) * score_of.unsqueeze(-2)
    jacobian = torch.func.jacfwd(lambda at: family.residual(z[0], at, phi))(phi)
    assert ((each.mean(0) - jacobian.mT @ jacobian).abs() < 6 * each.std(0) / count**0.5 + 1e-12).all()
