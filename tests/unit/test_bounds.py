"""Objectives against closed forms, quadrature and loops; the faults of public code that each would catch."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from curvae import objectives
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import (
    Ciwae,
    Cubo,
    FDivergence,
    Iwae,
    Miwae,
    MonteCarloElbo,
    Piwae,
    Renyi,
    WakePhi,
    elbo,
    hellinger,
    kullback_leibler,
    log_mean_exp,
)
from curvae.priors import StandardNormal
from quadrature import Given, Quadrature, Weighted
from zoo import TwoModes, batch_of, relu_model

DOUBLE = torch.float64


def weights(count=6, data=4):
    log_w = 3 * torch.randn(count, data, dtype=DOUBLE)
    return log_w, torch.full_like(log_w, -math.log(count))


# --- importance-weighted bounds --------------------------------------------------------------------------------------


def drawn(objective, samples, total=6):
    """The bound and the log weights of its draws, in the order in which they were drawn."""
    model, batch = relu_model("gaussian")
    noise = torch.randn(total, 8, 3, dtype=DOUBLE)
    loc, log_scale = 0.5 * torch.randn(2, 8, 3, dtype=DOUBLE)
    bound = objective(model, Given(loc, log_scale, noise), batch, samples)
    draws = Given(loc, log_scale, noise).draw(total)
    return bound, model.log_joint(batch.x, draws.z) - draws.log_q


@pytest.mark.parametrize(("groups", "samples"), [(2, 3), (3, 2), (1, 6), (6, 1)])
def test_groups_and_draws_are_not_swapped(groups, samples):
    """The average runs over groups, the logarithm of the mean over the draws of each: by loops over both."""
    bound, log_w = drawn(Miwae(groups), samples)
    each = [log_w[m * samples : (m + 1) * samples].exp().mean(0).log() for m in range(groups)]
    torch.testing.assert_close(bound.value, sum(each) / groups)


def test_more_draws_in_a_group_are_tighter_than_more_groups():
    """E[MIWAE(M, K)] is E[IWAE_K]: it rises with K and does not depend on M. By quadrature."""
    values = [Quadrature(4, 12).expected(Miwae(groups), 4 // groups)[0].item() for groups in (1, 2, 4)]
    assert values[0] > values[1] > values[2]
    assert values[1] == pytest.approx(Quadrature(2, 12).expected(Iwae(), 2)[0].item(), abs=1e-8)
    assert values[2] == pytest.approx(Quadrature(1, 12).expected(MonteCarloElbo(), 1)[0].item(), abs=1e-8)


def test_special_cases():
    log_w, log_c = weights()
    mean, iwae = (torch.exp(log_c) * log_w).sum(0), torch.logsumexp(log_w, 0) - math.log(6)
    for objective, expected in {
        Miwae(1): iwae,
        Miwae(6): mean,
        Ciwae(0.0): iwae,
        Ciwae(1.0): mean,
        Renyi(0.0): iwae,
        Renyi(1.0): mean,
        Piwae(3): iwae,
        MonteCarloElbo(): mean,
        FDivergence(kullback_leibler): mean,
        FDivergence(hellinger): Renyi(0.5).combine(log_w, log_c),
    }.items():
        torch.testing.assert_close(objective.combine(log_w, log_c), expected)


def test_what_is_reported_is_the_bound_not_the_weighted_sum_of_log_weights():
    bound, log_w = drawn(Iwae(), 6)
    torch.testing.assert_close(bound.value, log_w.exp().mean(0).log())
    assert ((log_w.softmax(0) * log_w).sum(0) - bound.value).abs().min() > 1e-6


def test_partial_bound_trains_the_two_halves_on_different_bounds():
    model, batch = relu_model("gaussian")
    noise, q = torch.randn(6, 8, 3, dtype=DOUBLE), 0.5 * torch.randn(2, 8, 3, dtype=DOUBLE)

    def gradients(objective, samples):
        leaf = q.clone().requires_grad_()
        bound = objective(model, Given(*leaf, noise), batch, samples)
        return torch.autograd.grad(bound.surrogate.sum(), [leaf, *model.parameters()])

    partial, whole, groups = gradients(Piwae(2), 3), gradients(Iwae(), 6), gradients(Miwae(2), 3)
    torch.testing.assert_close(partial[0], groups[0])
    for ours, theirs in zip(partial[1:], whole[1:], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (partial[0] - whole[0]).abs().max() > 1e-3
    assert (partial[-1] - groups[-1]).abs().max() > 1e-3


# --- Renyi, chi, f-divergences ---------------------------------------------------------------------------------------


def test_renyi_falls_with_alpha_and_is_continuous_at_1():
    log_w, log_c = weights()
    found = [Renyi(alpha).combine(log_w, log_c) for alpha in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    assert all((upper > lower).all() for upper, lower in itertools.pairwise(found))
    for alpha in (1 - 1e-6, 1 + 1e-6):
        torch.testing.assert_close(Renyi(alpha).combine(log_w, log_c), found[3], atol=1e-4, rtol=0)
    far = (log_w - 5000).float()
    torch.testing.assert_close(
        Renyi(1 - 1e-4).combine(far, log_c.float()), Renyi(1.0).combine(far, log_c.float()), atol=5e-3, rtol=0
    )


def test_bounds_are_in_order_around_the_evidence():
    """Expectations under q by sums over a grid: ELBO < Renyi(0.5) < log p(x) < CUBO_2, and L_0 is log p(x)."""
    oracle = Quadrature(draws=1, nodes=1)
    q = Weighted(*torch.tensor([[[0.9]], [[-0.3]]], dtype=DOUBLE))
    evidence = oracle.log_evidence()
    value = {alpha: Renyi(alpha)(oracle.model, q, oracle.one(), 1).surrogate.item() for alpha in (-1, 0, 0.5, 1, 2)}
    cubo = Cubo()(oracle.model, q, oracle.one(), 1)
    assert value[2] < value[1] < value[0.5] < evidence.item() < value[-1]
    assert value[0] == pytest.approx(evidence.item(), abs=1e-6)
    assert cubo.info["upper_bound"].item() == pytest.approx(value[-1], abs=1e-12)
    assert cubo.value.item() == pytest.approx(evidence.item(), abs=1e-6)
    shannon = FDivergence()(oracle.model, q, oracle.one(), 1).value
    assert value[1] < shannon.item() < evidence.item()


@pytest.mark.parametrize(("loc", "log_scale"), [(0.0, 0.3), (1.0, -0.5), (1.5, -1.0), (-0.5, 0.0)])
def test_bounds_bracket_the_evidence_of_two_modes(loc, log_scale):
    """Expectations by sums over a grid: on one mode, between both or across them."""
    oracle = TwoModes()
    q = Weighted(*(torch.full((3, 1), value, dtype=DOUBLE) for value in (loc, log_scale)))

    def value(objective):
        return objective(oracle.model, q, oracle.batch, 1).value

    lower = [value(objective) for objective in (Renyi(2.0), MonteCarloElbo(), Renyi(0.5), Renyi(0.2))]
    upper = [Cubo(order)(oracle.model, q, oracle.batch, 1).info["upper_bound"] for order in (1.5, 2.0, 3.0)]
    ordered = [*lower, oracle.log_evidence(), *upper]
    assert all((below < above).all() for below, above in itertools.pairwise(ordered))
    for objective in (FDivergence(), Ciwae(0.5), elbo):
        assert (value(objective) < oracle.log_evidence() + 1e-7).all()


def test_wake_covers_both_modes_where_the_elbo_takes_one():
    """The optimum of the inclusive divergence among Gaussians has the posterior's own mean and variance."""
    oracle = TwoModes()
    z = oracle.grid[::10, None, None].expand(-1, 3, 1)
    share = oracle.model.log_joint(oracle.x, z).softmax(0).detach()
    mean = (share[..., None] * z).sum(0)
    variance = (share[..., None] * (z - mean).square()).sum(0)
    leaves = [each.clone().requires_grad_() for each in (mean, variance.log() / 2)]
    wake = WakePhi()(oracle.model, Weighted(*leaves), oracle.batch, 1).surrogate.sum()
    assert all(found.abs().max() < 1e-5 for found in torch.autograd.grad(wake, leaves))
    exclusive = MonteCarloElbo()(oracle.model, Weighted(*leaves), oracle.batch, 1).surrogate.sum()
    assert torch.autograd.grad(exclusive, leaves)[1].min() < -0.5, "the ELBO would have it narrower"


def test_chi_upper_bound_in_closed_form():
    """q = N(0, 1) is the prior of a linear-Gaussian model: E_q[w^2] is a Gaussian integral."""
    scale, x = 0.9, torch.tensor([[0.6]], dtype=DOUBLE)
    decoder = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(decoder.weight)
    model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(1, scale=scale)).double()
    q = Weighted(*torch.zeros(2, 1, 1, dtype=DOUBLE))
    # N(x; z, s^2)^2 = N(x; z, s^2 / 2) / (2 s sqrt(pi))
    square = Normal(torch.zeros((), dtype=DOUBLE), (1 + scale**2 / 2) ** 0.5).log_prob(x)
    exact = 0.5 * (square - math.log(2 * scale * math.pi**0.5))
    found = Cubo()(model, q, batch_of(x), 1).info["upper_bound"]
    torch.testing.assert_close(found, exact[0], atol=1e-8, rtol=0)


def test_below_0_nothing_is_claimed():
    """With one draw the Renyi 'upper bound' is the ELBO, so what is reported is the importance-weighted bound."""
    log_w, log_c = weights()
    assert Renyi(-1.0).kind == "none"
    torch.testing.assert_close(Renyi(-1.0).report(log_w, log_c)[0], log_mean_exp(log_w, log_c))
    oracle = Quadrature(draws=1, nodes=40)
    assert oracle.expected(Renyi(-1.0), 1)[1] < oracle.log_evidence()


def test_f_divergence_solves_its_equation_and_stays_below_the_importance_weighted_bound():
    log_w, log_c = weights()
    found = FDivergence().combine(log_w, log_c)
    u = log_w - torch.logsumexp(log_w, 0)
    psi = objectives.jensen_shannon_generator
    torch.testing.assert_close(psi(found - torch.logsumexp(log_w, 0)), psi(u).mean(0))
    assert (found < log_mean_exp(log_w, log_c)).all()
    assert torch.autograd.gradgradcheck(FDivergence().combine, (log_w[:3].requires_grad_(), log_c[:3]))


def test_jensen_shannon_generator_falls_and_is_convex_in_t():
    t = torch.linspace(0.01, 1, 200, dtype=DOUBLE)
    value = objectives.jensen_shannon_generator(t.log())
    torch.testing.assert_close(value, t * t.log() - (1 + t) * ((1 + t) / 2).log())
    assert (value.diff() < 0).all()
    assert (value.diff().diff() > 0).all()


# --- directions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [Iwae(), Miwae(2), Piwae(2), Ciwae(0.5), Renyi(0.5), FDivergence(), elbo])
def test_a_step_up_the_surrogate_raises_what_is_reported(objective):
    oracle = Quadrature(draws=4, nodes=5)
    samples = 4 // getattr(objective, "groups", 1)
    before = oracle.expected(objective, samples)[0]
    step(oracle, *oracle.gradients(objective, samples))
    assert oracle.expected(objective, samples)[0] > before


def step(oracle, of_posterior, of_model=0.0, rate=1e-3):
    with torch.no_grad():
        oracle.loc.add_(rate * of_posterior[:1])
        oracle.log_scale.add_(rate * of_posterior[1:])
        oracle.model.decoder.slope.add_(rate * of_model)


@pytest.mark.parametrize("doubly", [False, True])
def test_the_posterior_lowers_the_chi_bound(doubly):
    estimator = objectives.DoublyReparameterized() if doubly else objectives.Reparameterized()
    oracle = Quadrature(draws=2, nodes=20)

    def upper():
        bound = Cubo(estimator=estimator)(oracle.model, oracle.posterior(), oracle.batch, 2)
        return (oracle.weight * bound.info["upper_bound"]).sum()

    before = upper()
    step(oracle, oracle.gradients(Cubo(estimator=estimator), 2)[0])
    assert upper() < before


def test_wake_gradient_is_that_of_the_inclusive_divergence():
    """Draws are a grid with the weights of q, so self-normalization is exact: d E_p[log q] / d phi."""
    oracle = Quadrature(draws=1, nodes=1)
    leaves = [torch.tensor([[value]], dtype=DOUBLE, requires_grad=True) for value in (0.9, -0.3)]
    q = Weighted(*leaves)
    found = torch.autograd.grad(WakePhi()(oracle.model, q, oracle.one(), 1).surrogate.sum(), leaves)
    z = q.draw(1).z.detach()
    exact = torch.autograd.grad(
        (oracle.model.log_joint(oracle.x[:1], z).softmax(0).detach() * q.log_prob(z)).sum(), leaves
    )
    torch.testing.assert_close(found, exact, atol=1e-9, rtol=1e-7)
