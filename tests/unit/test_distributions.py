"""The vocabulary of laws: divergences by pairs of classes, conditional laws against torch's, products of them."""

import itertools

import pytest
import torch

import methods
from chance import means
from curvae.distributions import (
    DiagonalGaussian,
    Draws,
    GaussianPosterior,
    ProductPosterior,
    kl,
    normal_kl,
    register_kl,
)
from curvae.priors import Layered, StandardNormal
from zoo import FAMILIES, D

F64 = torch.float64
GAUSSIANS = ("diagonal", "full", "precision", "householder", "rank-one")


def torch_law(law: torch.nn.Module) -> torch.distributions.Distribution:
    """The same law of torch, for a Gaussian or categories."""
    if isinstance(law, GaussianPosterior):
        return torch.distributions.MultivariateNormal(law.mean, law.covariance)
    return torch.distributions.Independent(torch.distributions.OneHotCategorical(logits=law.logits), 1)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(GAUSSIANS, GAUSSIANS)))
def test_divergence_of_each_pair_of_gaussians(one, other):
    q, p = methods.posterior(one), methods.posterior(other)
    expected = torch.distributions.kl_divergence(torch_law(q), torch_law(p))
    torch.testing.assert_close(kl(q, p), expected.unsqueeze(-1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("one", GAUSSIANS)
def test_divergence_of_a_gaussian_from_each_prior(one):
    q = methods.posterior(one)
    normal = torch.distributions.MultivariateNormal
    white, aggregate = StandardNormal(D), methods.PRIORS["aggregate-normal"]().double()
    for prior, law in (
        (white, normal(torch.zeros(D, dtype=F64), torch.eye(D, dtype=F64))),
        (aggregate, normal(aggregate.mean, aggregate.covariance)),
    ):
        expected = torch.distributions.kl_divergence(torch_law(q), law)
        torch.testing.assert_close(kl(q, prior), expected.unsqueeze(-1), atol=1e-9, rtol=1e-9)


def test_a_divergence_splits_over_the_blocks_where_the_law_does():
    prior = StandardNormal(D, blocks=(1, 2))
    for name in ("diagonal", "rank-one"):
        q = methods.posterior(name)
        parts = [(0, 1), (1, 3)]
        for block, (low, high) in enumerate(parts):
            marginal = torch.distributions.MultivariateNormal(q.mean[:, low:high], q.covariance[:, low:high, low:high])
            size = high - low
            white = torch.distributions.MultivariateNormal(torch.zeros(size, dtype=F64), torch.eye(size, dtype=F64))
            expected = torch.distributions.kl_divergence(marginal, white)
            torch.testing.assert_close(kl(q, prior)[:, block], expected, atol=1e-10, rtol=1e-10)
    assert kl(methods.posterior("full"), prior) is None
    assert kl(methods.posterior("rank-one"), StandardNormal(D, blocks=(2, 1))) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_conditional_law_is_that_of_torch(name):
    """Density, moments, divergence: at any number of leading dimensions."""
    family = FAMILIES[name]
    phi, other = torch.randn(2, 4, 5, family.parameters, dtype=F64)
    q, p = family(phi), family(other)
    oracle, against = (torch_law(family(value.flatten(0, 1))) for value in (phi, other))
    z = q.from_noise(torch.randn(4, 5, family.size, dtype=F64))
    flat = z.reshape(20, *oracle.batch_shape[1:], *oracle.event_shape)
    torch.testing.assert_close(q.log_prob(z).flatten(), oracle.log_prob(flat), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(q.mean.flatten(0, 1), oracle.mean.flatten(1))
    variance = q.covariance.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(variance.flatten(0, 1), oracle.variance.flatten(1))
    expected = torch.distributions.kl_divergence(oracle, against)
    torch.testing.assert_close(kl(q, p).flatten(), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.statistical
@pytest.mark.parametrize("name", FAMILIES)
def test_standard_normal_noise_becomes_draws(name):
    family = FAMILIES[name]
    law = family(torch.randn(1, family.parameters, dtype=F64))
    z = law.from_noise(torch.randn(20_000, family.size, dtype=F64))
    means("mean", z, law.mean)


def test_the_information_of_a_law_is_that_of_its_residual():
    """J'J of residuals in phi against the Hessian of the divergence from the law at phi, both at phi."""
    for family in FAMILIES.values():
        phi = torch.randn(family.parameters, dtype=F64)
        center = family(phi).mean.detach()
        jacobian = torch.func.jacfwd(lambda at, f=family, z=center, p=phi: f(at).residual(z, at=f(p)))(phi)
        fisher = torch.func.hessian(lambda at, f=family, p=phi: kl(f(p), f(at))[0])(phi)
        torch.testing.assert_close(jacobian.mT @ jacobian, fisher, atol=1e-9, rtol=1e-9)


def test_the_nearest_classes_decide():
    class Parent: ...

    class Child(Parent): ...

    class Prior: ...

    class Narrow(Prior): ...

    @register_kl(Parent, Prior)
    def _(q, p):
        return torch.full((1, 1), 1.0)

    assert kl(Child(), Narrow()).item() == 1
    assert kl(Prior(), Parent()) is None

    @register_kl(Parent, Narrow)
    def _(q, p):
        return torch.full((1, 1), 2.0)

    @register_kl(Child, Prior)
    def _(q, p):
        return torch.full((1, 1), 3.0)

    found = [kl(q, p).item() for q in (Parent(), Child()) for p in (Prior(), Narrow())]
    assert found == [1, 2, 3, 3], "the class of q before that of p, and whatever was asked for before"


def test_one_dimension_at_a_time():
    m, s, n, t = torch.randn(4, 50, dtype=F64)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(m, s.exp()), normal(n, t.exp()))
    torch.testing.assert_close(normal_kl((m - n) * (-t).exp(), s - t), expected, atol=1e-10, rtol=1e-10)


def test_a_product_is_its_layers():
    families = tuple(FAMILIES.values())
    phi = torch.randn(6, sum(family.parameters for family in families), dtype=F64)
    q = ProductPosterior(families, phi)
    draws = q.draw(4)
    laws = [
        family(part) for family, part in zip(families, phi.split([f.parameters for f in families], -1), strict=True)
    ]
    parts = draws.z.split([family.size for family in families], dim=-1)
    each = [law.log_prob(part) for law, part in zip(laws, parts, strict=True)]
    torch.testing.assert_close(draws.log_q, torch.stack(each).sum(0))
    torch.testing.assert_close(draws.score, each[-1])
    torch.testing.assert_close(
        q.covariance,
        torch.stack([torch.block_diag(*rows) for rows in zip(*(law.covariance for law in laws), strict=True)]),
    )
    assert not q.continuous


def test_a_layered_prior_of_one_layer_diverges_as_its_law_does():
    family = FAMILIES["learned"]
    prior = Layered([family]).double()
    phi = torch.randn(5, family.parameters, dtype=F64)
    expected = kl(family(phi), DiagonalGaussian(*torch.zeros(2, 5, 3, dtype=F64)))
    torch.testing.assert_close(prior.divergences(ProductPosterior((family,), phi)), expected)


def test_independent_draws_weigh_the_same():
    z, log_q = torch.randn(4, 3, 2), torch.randn(4, 3)
    draws = Draws.iid(z, log_q)
    torch.testing.assert_close(draws.log_c.exp(), torch.full((4, 3), 0.25))
    assert draws.score is None
    assert Draws.iid(z, log_q, score=log_q).score is log_q


@pytest.mark.parametrize("name", FAMILIES)
def test_residual_is_the_root_of_the_expected_information(name):
    """E over z of -Hessian of log p(z | phi) in phi, by draws of the score; 6 standard errors."""
    family, count = FAMILIES[name], 40_000
    phi = torch.randn(family.parameters, dtype=F64)
    z = family(phi.expand(count, -1)).from_noise(torch.randn(count, family.size, dtype=F64))

    def log_prob(point: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return family(at.unsqueeze(0)).log_prob(point.unsqueeze(0))[0]

    def residual(at: torch.Tensor) -> torch.Tensor:
        return family(at.unsqueeze(0)).residual(z[:1], at=family(phi.unsqueeze(0)))[0]

    score = torch.func.vmap(torch.func.grad(log_prob, argnums=1), in_dims=(0, None))(z, phi)
    each, jacobian = score.unsqueeze(-1) * score.unsqueeze(-2), torch.func.jacfwd(residual)(phi)
    assert ((each.mean(0) - jacobian.mT @ jacobian).abs() < 6 * each.std(0) / count**0.5 + 1e-12).all()
