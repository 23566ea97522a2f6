"""Mixtures: density, moments, stratified draws."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

import methods
from curvae.inference import AmortizedGaussian, AmortizedMixture, Inference, Inferred, Laplace, MultimodalLaplace
from curvae.objectives import RecursiveElbo, monte_carlo_elbo
from curvae.posteriors import DiagonalGaussian, Draws, Mixture, Posterior
from zoo import TwoModes, relu_model, two_normals

# --- the posterior -----------------------------------------------------------------------------------------------


def test_density_and_moments_against_torch():
    q = methods.posterior("mixture", 4)
    parts = MultivariateNormal(
        torch.stack([part.mean for part in q.components], 1), torch.stack([part.covariance for part in q.components], 1)
    )
    oracle = MixtureSameFamily(Categorical(logits=q.logits), parts)
    z = torch.randn(5, 4, methods.D, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), oracle.log_prob(z))
    torch.testing.assert_close(q.mean, oracle.mean)
    torch.testing.assert_close(q.covariance.diagonal(dim1=-2, dim2=-1), oracle.variance)


def test_interval_inverts_the_distribution_function():
    q = Mixture(
        (methods.posterior("diagonal", 4), methods.posterior("diagonal", 4)), torch.randn(4, 2, dtype=torch.float64)
    )
    for end, mass in zip(q.interval(0.8), (0.1, 0.9), strict=True):
        each = [Normal(part.mean, part.variance.sqrt()).cdf(end) for part in q.components]
        below = sum(w[:, None] * part for w, part in zip(q.log_weights.exp(), each, strict=True))
        torch.testing.assert_close(below, torch.full_like(below, mass), atol=1e-12, rtol=0)


def test_interval_from_draws_where_a_component_is_not_gaussian():
    inner, outer = two_normals(-2.0, 2.0), two_normals(-2.0, 2.0)
    nested = Mixture((inner, outer), torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(torch.cat(nested.interval(0.8)), torch.cat(inner.interval(0.8)), atol=0.1, rtol=0)
    assert nested.draw(3).z.shape == (nested.count(3), 1, 1) == (12, 1, 1)


def test_search_starts_at_a_mode_not_between_two():
    q = two_normals(-2.0, 2.0)
    assert q.mean.item() == 0
    assert q.center.abs().item() == 2


def test_copies_change_nothing():
    q = Mixture((methods.posterior("diagonal"), methods.posterior("diagonal")), torch.randn(8, 2, dtype=torch.float64))
    share = q.logits - torch.tensor([math.log(2), 0.0])
    again = Mixture((*q.components, q.components[0]), torch.cat([share, share[:, :1]], 1))
    z = torch.randn(5, 8, methods.D, dtype=torch.float64)
    torch.testing.assert_close(again.log_prob(z), q.log_prob(z))
    torch.testing.assert_close(again.covariance, q.covariance)


def test_a_component_without_weight_leaves_the_mixture_before_it():
    q = Mixture((methods.posterior("diagonal"), methods.posterior("diagonal")), torch.randn(8, 2, dtype=torch.float64))
    grown = Mixture((*q.components, methods.posterior("diagonal")), torch.cat([q.logits, q.logits[:, :1] - 60], 1))
    z = torch.randn(5, 8, methods.D, dtype=torch.float64)
    torch.testing.assert_close(grown.log_prob(z), q.log_prob(z))
    model, batch = relu_model("gaussian")
    whole = RecursiveElbo()(model, grown, batch, 4000).value
    torch.testing.assert_close(whole, RecursiveElbo()(model, q, batch, 4000).value, atol=0.5, rtol=0.02)


def test_stratified_bound_and_its_gradient_by_quadrature():
    """ELBO = sum_k pi_k E_k[log p - log Q]; 6 standard errors of the mean of 40 bounds, 500 draws of each component."""
    oracle = TwoModes()
    logits = torch.tensor([[0.3, -0.5]] * 3, dtype=torch.float64, requires_grad=True)
    q = Mixture(two_normals(-0.9, 1.2, 3, -1.0).components, logits)
    z = oracle.grid[:, None, None].expand(-1, 3, 1)
    log_q = q.log_prob(z)
    gap = oracle.grid[1] - oracle.grid[0]
    exact = (log_q.exp() * (oracle.model.log_joint(oracle.x, z) - log_q)).sum(0) * gap
    found = torch.stack([monte_carlo_elbo(oracle.model, q, oracle.batch, 500).value for _ in range(40)])
    slopes = torch.stack([torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in found])
    (slope,) = torch.autograd.grad(exact.sum(), logits)
    for each, mean in ((found, exact), (slopes, slope)):
        error = each.std(0) / 40**0.5
        assert (error < 0.05).all()
        assert ((each.mean(0) - mean).abs() < 6 * error).all()


def test_a_scored_component_keeps_its_score():
    class Scored(DiagonalGaussian):
        def draw(self, n, generator=None) -> Draws:
            draws = super().draw(n, generator)
            return draws._replace(score=draws.log_q)

    plain = methods.posterior("diagonal")
    scored = Scored(plain.loc, plain.log_scale)
    draws = Mixture((plain, scored), torch.zeros(8, 2, dtype=torch.float64)).draw(3)
    assert (draws.score[:3] == 0).all()
    assert (draws.score[3:] != 0).all()


def test_misuse():
    with pytest.raises(ValueError, match=r"one logit for each of 1 or more components; got 1 components and logits"):
        Mixture((methods.posterior("diagonal"),), torch.zeros(8, 2))
    with pytest.raises(ValueError, match="expects 1 or more components; got none"):
        AmortizedMixture([], nn.Linear(1, 1))
    with pytest.raises(ValueError, match="components must be 1 or more; got 0"):
        MultimodalLaplace(AmortizedGaussian(nn.Linear(1, 2)), components=0)
    with pytest.raises(ValueError, match="must be 0 or more; got -1"):
        RecursiveElbo(strength=-1)


def test_components_must_have_a_density():
    class Blind(Posterior):
        tensors = center = mean = covariance = with_tensors = draw = _interval = None

    class Method(Inference):
        def forward(self, model, batch):
            return Inferred(Blind())

    oracle = TwoModes()
    with pytest.raises(ValueError, match="components with a density; got Blind"):
        AmortizedMixture([Method()], nn.Linear(1, 1))(oracle.model, oracle.batch)
    with pytest.raises(ValueError, match="a posterior with a density; got Blind"):
        RecursiveElbo()(oracle.model, Blind(), oracle.batch)


def test_encoder_bounds_and_state_of_the_components_come_through():
    model, batch = relu_model("gaussian")
    parts = [Laplace(AmortizedGaussian(methods.encoder(2 * methods.D)), 2) for _ in range(2)]
    parts[1].remember(8, model.prior)
    found = AmortizedMixture(parts, methods.encoder(2))(model, batch)
    each = [part(model, batch) for part in parts]
    torch.testing.assert_close(found.encoder_bound, sum(part.encoder_bound for part in each))
    torch.testing.assert_close(found.state["components.1.modes"], each[1].state["modes"])
