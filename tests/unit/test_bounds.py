"""Objectives against closed forms, quadrature and loops; the faults of public code that each would catch."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from curvae import objectives
from curvae.inference import AmortizedGaussian, AmortizedMean
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import (
    BatchInformation,
    BatchLikelihood,
    Bound,
    Ciwae,
    Cubo,
    FDivergence,
    Iwae,
    Miwae,
    MonteCarloElbo,
    MutualDivergence,
    Piwae,
    Renyi,
    SkewJensenShannon,
    WakePhi,
    aggregate,
    batch_likelihood,
    declares,
    elbo,
    hellinger,
    kind_of,
    kullback_leibler,
    log_mean_exp,
    pairwise_kl,
    skew_jensen_shannon,
)
from curvae.posteriors import DiagonalGaussian, FullGaussian, Mixture, plain
from curvae.posteriors.gaussian import pack
from curvae.priors import AggregateNormal, StandardNormal
from curvae.systems import LatentSystem, bilbo
from curvae.typing import Batch, DataSpec
from quadrature import Given, Quadrature, Weighted
from zoo import LinearGaussian, TwoModes, batch_of, relu_model

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
    psi = objectives.jensen_shannon
    torch.testing.assert_close(psi(found - torch.logsumexp(log_w, 0)), psi(u).mean(0))
    assert (found < log_mean_exp(log_w, log_c)).all()
    assert torch.autograd.gradgradcheck(FDivergence().combine, (log_w[:3].requires_grad_(), log_c[:3]))


def test_jensen_shannon_generator_falls_and_is_convex_in_t():
    t = torch.linspace(0.01, 1, 200, dtype=DOUBLE)
    value = objectives.jensen_shannon(t.log())
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


# --- skew-geometric Jensen-Shannon -----------------------------------------------------------------------------------


def test_skew_divergence_against_torch_and_its_identity():
    """Ends are the two divergences; in between (1 - a)^2 KL(q || p) + a^2 KL(p || q) + log int q^a p^(1 - a)."""
    loc, log_scale = 0.7 * torch.randn(2, 5, 1, dtype=DOUBLE)
    q, p = Normal(loc, log_scale.exp()), Normal(torch.zeros_like(loc), torch.ones_like(loc))
    down, back = torch_kl(q, p).sum(-1), torch_kl(p, q).sum(-1)
    torch.testing.assert_close(skew_jensen_shannon(loc, log_scale, 0.0), down)
    torch.testing.assert_close(skew_jensen_shannon(loc, log_scale, 1.0), back)
    grid = torch.linspace(-30, 30, 60_001, dtype=DOUBLE)[:, None, None]
    overlap = (0.3 * q.log_prob(grid) + 0.7 * p.log_prob(grid)).exp().sum((0, -1)) * 1e-3
    expected = 0.7**2 * down + 0.3**2 * back + overlap.log()
    torch.testing.assert_close(skew_jensen_shannon(loc, log_scale, 0.3), expected, atol=1e-8, rtol=1e-8)


def test_skew_objective_is_the_elbo_at_0_and_reports_it_always():
    model, batch = relu_model("gaussian")
    leaves = 0.5 * torch.randn(2, 8, 3, dtype=DOUBLE)
    noise = torch.randn(2, 8, 3, dtype=DOUBLE)
    plain_bound = elbo(model, Given(*leaves, noise), batch, 2)
    for skew in (0.0, 0.4):
        bound = SkewJensenShannon(skew, weight=2.0)(model, Given(*leaves, noise), batch, 2)
        torch.testing.assert_close(bound.value, plain_bound.value)
        divergence = skew_jensen_shannon(*leaves, skew)
        torch.testing.assert_close(bound.surrogate, plain_bound.value + plain_bound.info["kl"] - 2 * divergence)
    full = FullGaussian(leaves[0], torch.zeros(8, 3, 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="expects a DiagonalGaussian posterior and a StandardNormal prior; got FullG"):
        SkewJensenShannon()(model, full, batch, 2)


# --- mutual posterior divergence -------------------------------------------------------------------------------------


def regularizer(loc, log_scale, objective):
    """What the objective takes off the ELBO."""
    count, size = loc.shape
    decoder = nn.Linear(size, 2).to(loc.dtype)
    model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(2)).to(loc.dtype)
    batch = Batch(torch.zeros(count, 2, dtype=loc.dtype), torch.arange(count))
    bound = objective(model, DiagonalGaussian(loc, log_scale), batch, 3)
    return (bound.value + bound.info["kl"] - bound.info["kl"].mean() - bound.surrogate)[0]


def test_mutual_divergence_by_hand():
    """Two data, one latent: KL_12 = 1/2 (1/4 + 1/4 + log 4 - 1), KL_21 = 1/2 (4 + 1 - log 4 - 1)."""
    loc, log_scale = torch.tensor([[0.0], [1.0]], dtype=DOUBLE), torch.tensor([[0.0], [math.log(2)]], dtype=DOUBLE)
    one, two = 0.5 * (0.25 + 0.25 + math.log(4) - 1), 0.5 * (4 + 1 - math.log(4) - 1)
    torch.testing.assert_close(pairwise_kl(loc, log_scale).flatten(), torch.tensor([one, two], dtype=DOUBLE))
    expected = 2 * math.log1p(math.exp(-(one + two) / 2)) + 3 * abs(one - two) / math.sqrt(2)
    assert regularizer(loc, log_scale, MutualDivergence(2, 3)).item() == pytest.approx(expected)


def test_mutual_divergence_against_torch_and_loops():
    loc, log_scale = 0.7 * torch.randn(2, 5, 3, dtype=DOUBLE)
    q = Normal(loc, log_scale.exp())
    table = torch_kl(Normal(loc[:, None], q.scale[:, None]), Normal(loc[None], q.scale[None]))
    pairs = torch.stack([table[i, j] for i in range(5) for j in range(5) if i != j])
    torch.testing.assert_close(pairwise_kl(loc, log_scale), pairs)
    filled = table.sum(-1)
    filled.fill_diagonal_(pairs.sum(-1).mean())
    spread = filled.std() * math.sqrt((25 - 1) / (25 - 5 - 1))  # the diagonal filled, and corrected for it
    expected = -torch.sigmoid(pairs.mean(0)).log().sum() + 0.5 * spread
    torch.testing.assert_close(regularizer(loc, log_scale, MutualDivergence(1, 0.5)), expected)
    order = torch.randperm(5)
    torch.testing.assert_close(regularizer(loc[order], log_scale[order], MutualDivergence(1, 0.5)), expected)


def test_equal_posteriors_cost_log_2_a_latent_and_keep_gradients_finite():
    leaf = torch.zeros(2, 4, 3, dtype=DOUBLE, requires_grad=True)
    found = regularizer(*leaf, MutualDivergence(1.5, 1.0))
    assert found.item() == pytest.approx(1.5 * 3 * math.log(2))
    (gradient,) = torch.autograd.grad(found, leaf)
    assert gradient.isfinite().all()
    assert regularizer(*torch.zeros(2, 1, 3, dtype=DOUBLE), MutualDivergence(1.5, 1.0)).item() == 0, (
        "one datum, no pairs"
    )


def test_free_nats_are_of_the_mean_over_the_batch():
    loc = torch.tensor([[0.1], [2.0]], dtype=DOUBLE)  # KL 0.005 and 2, mean 1.0025
    for free, taken in ((0.5, 0.0), (3.0, 3 - 1.0025)):
        found = regularizer(loc, torch.zeros_like(loc), MutualDivergence(0, 0, free))
        assert found.item() == pytest.approx(taken)


# --- batch information -----------------------------------------------------------------------------------------------


def sigma_points(mean, packed):
    """A posterior whose draws integrate quadratics exactly: ``+- sqrt(D)`` along each axis."""
    size = mean.shape[-1]
    eye = math.sqrt(size) * torch.eye(size, dtype=mean.dtype)
    noise = torch.cat([eye, -eye])[:, None].expand(-1, len(mean), -1)

    class Points(FullGaussian):
        def draw(self, n, generator=None):
            z = self.loc + self.color(noise)
            return plain(z, self.log_prob(z))

    return Points(mean, packed)


def test_batch_information_is_the_mean_divergence_to_the_best_normal():
    loc, roots = torch.randn(20, 3, dtype=DOUBLE), 0.3 * torch.randn(20, 3, 3, dtype=DOUBLE)
    q = FullGaussian(loc, roots.tril())
    whole = aggregate(q, unbiased=False)
    prior = MultivariateNormal(whole.mean, whole.covariance)
    exact = torch_kl(MultivariateNormal(loc, q.covariance), prior).mean()
    torch.testing.assert_close(whole.information, exact)
    unit = aggregate(DiagonalGaussian(loc, torch.zeros_like(loc)), unbiased=True)
    torch.testing.assert_close(unit.information, 0.5 * torch.logdet(torch.eye(3) + loc.mT.cov()))


def test_constant_variance_reaches_the_evidence_of_probabilistic_pca():
    """At the maximum-likelihood solution the batch bound equals the log-likelihood: constant variance loses nothing."""
    x = torch.randn(50, 6, dtype=DOUBLE) @ torch.randn(6, 6, dtype=DOUBLE)
    mean, size = x.mean(0), 2
    values, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
    noise = values[:-size].mean()
    weight = vectors[:, -size:] * (values[-size:] - noise).sqrt()
    precision = weight.mT @ weight / noise + torch.eye(size)
    root = torch.linalg.cholesky(torch.linalg.inv(precision))
    decoder = nn.Linear(size, 6).double()
    with torch.no_grad():
        decoder.weight.copy_(weight @ root)  # latents scaled to a unit posterior variance
        decoder.bias.copy_(mean)
    model = LatentVariableModel(AggregateNormal(size), decoder, Gaussian(6, scale=noise.item() ** 0.5)).double()
    center = torch.linalg.solve(root, torch.linalg.solve(precision, weight.mT @ (x - mean).mT / noise)).mT
    q = sigma_points(center, torch.zeros(50, size, size, dtype=DOUBLE))
    bound = BatchInformation(unbiased=False)(model, q, batch_of(x), 4)
    exact = MultivariateNormal(mean, weight @ weight.mT + noise * torch.eye(6, dtype=DOUBLE)).log_prob(x)
    torch.testing.assert_close(bound.surrogate.mean(), exact.mean(), atol=1e-10, rtol=0)
    model.prior.load_state_dict({key.removeprefix("model.prior."): value for key, value in bound.state.items()})
    reported = BatchInformation()(model, q, batch_of(x), 4).value
    torch.testing.assert_close(reported.mean(), exact.mean(), atol=1e-10, rtol=0)
    assert (reported <= exact + 1e-9).all(), "with the frozen prior it is a bound for each datum"


def test_moments_of_the_prior_are_a_running_average():
    """The first batches count the same: after two, the moments are those of both together."""
    prior, parts = AggregateNormal(2).double(), torch.randn(2, 30, 2, dtype=DOUBLE)
    for part in parts:
        prior.load_state_dict(prior.toward(part.mean(0), part.mT.cov(correction=0)))
    torch.testing.assert_close(prior.mean, parts.flatten(0, 1).mean(0))
    torch.testing.assert_close(prior.covariance, parts.flatten(0, 1).mT.cov(correction=0))
    assert prior.seen == 2
    with pytest.raises(ValueError, match=r"size >= 1 and rate in \(0, 1\]; got 2 and 0"):
        AggregateNormal(2, rate=0)


def test_the_prior_moves_in_training_only_and_reports_do_not_see_the_batch():
    system = bilbo(DataSpec((5,)), latent=2, hidden=8)
    x = torch.randn(16, 5)
    torch.manual_seed(0)
    whole = system.bound(batch_of(x))
    torch.manual_seed(0)
    assert torch.equal(system.bound(batch_of(x)).value, whole.value)
    assert set(whole.state) == {f"model.prior.{name}" for name in ("mean", "covariance", "seen")}
    assert system.model.prior.seen == 0
    for name in whole.state:
        system.get_buffer(name)


def test_half_the_encoder_outputs():
    assert AmortizedMean(nn.Linear(5, 3))(None, batch_of(torch.zeros(4, 5))).posterior.mean.shape == (4, 3)
    system = bilbo(DataSpec((5,)), latent=3, hidden=8)
    assert system.inference.encoder[-1].out_features == 3


def test_batch_likelihood_is_bounded_and_blind_to_scale():
    x, eta = torch.randn(30, 4, dtype=DOUBLE), torch.randn(5, 30, 4, dtype=DOUBLE)
    found = batch_likelihood(x, eta, None, 0.01)
    ratio = (x - eta).square().mean((0, 1)) / x.var(0, correction=0)
    torch.testing.assert_close(found, -0.5 * (ratio + 0.01).log().sum())
    scale = torch.tensor([1e-3, 1.0, 10.0, 1e4], dtype=DOUBLE)
    torch.testing.assert_close(batch_likelihood(scale * x, scale * eta, None, 0.01), found)
    best = batch_likelihood(x, x.expand(5, -1, -1), None, 0.01)
    torch.testing.assert_close(best, torch.tensor(2 * math.log(100), dtype=DOUBLE))
    mask = torch.rand(30, 4) < 0.7
    holes = torch.where(mask, x, 0.0)
    torch.testing.assert_close(
        batch_likelihood(holes, eta, mask, 0.01),
        sum(batch_likelihood(x[mask[:, j], j : j + 1], eta[:, mask[:, j], j : j + 1], None, 0.01) for j in range(4)),
    )
    constant = torch.cat([x, torch.ones(30, 1)], 1), torch.cat([eta, torch.ones(5, 30, 1)], -1).requires_grad_()
    left_out = batch_likelihood(*constant, None, 0.01)
    torch.testing.assert_close(left_out, found)
    assert torch.autograd.grad(left_out, constant[1])[0].isfinite().all()


def test_likelihood_of_the_batch_form_learns_its_own_variance():
    """The decoder gets the batch form's gradient alone, the variance that of its own log-density."""
    decoder = nn.Linear(2, 4).double()
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(4, learn="element")).double()
    x, q = (
        torch.randn(20, 4, dtype=DOUBLE),
        Given(*torch.zeros(2, 20, 2, dtype=DOUBLE), torch.randn(3, 20, 2, dtype=DOUBLE)),
    )
    bound = BatchLikelihood(0.01)(model, q, batch_of(x), 3)
    found = torch.autograd.grad(bound.surrogate.mean(), [decoder.weight, model.likelihood.log_variance])
    z = Given(q.loc, q.log_scale, q.noise).draw(3).z
    (weight,) = torch.autograd.grad(batch_likelihood(x, model.decode(z), None, 0.01), decoder.weight)
    (variance,) = torch.autograd.grad(model.log_likelihood(x, z).mean(), model.likelihood.log_variance)
    torch.testing.assert_close(found, (weight, variance))


# --- kinds and misuse ------------------------------------------------------------------------------------------------


def test_kinds_are_declared():
    kinds = {
        elbo: "lower",
        Miwae(2): "lower",
        Renyi(0.5): "lower",
        Renyi(-2.0): "none",
        Cubo(): "upper",
        WakePhi(): "none",
        objectives.RecursiveElbo(): "lower",
        SkewJensenShannon(): "none",
        MutualDivergence(): "none",
        BatchInformation(): "lower",
    }
    for objective, kind in kinds.items():
        assert kind_of(objective) == kind
    assert kind_of(functools.partial(elbo, beta=0.5)) == "lower"
    assert kind_of(objectives.AnnealedElbo(3)) == "lower"
    model, inference = LinearGaussian().model, AmortizedGaussian(nn.Linear(10, 6))
    assert LatentSystem(model, inference, Cubo()).kind == "upper"


def test_an_objective_that_declares_nothing_is_refused():
    def mine(model, posterior, batch, samples):
        return Bound(torch.zeros(len(batch.x)), torch.zeros(len(batch.x)))

    model, inference = LinearGaussian().model, AmortizedGaussian(nn.Linear(10, 6))
    with pytest.raises(ValueError, match="mine must say whether it is a bound of log p"):
        LatentSystem(model, inference, mine)
    assert LatentSystem(model, inference, declares("none")(mine)).kind == "none"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Miwae(0), "Miwae: groups must be 1 or more; got 0"),
        (lambda: Piwae(0), "Piwae: groups must be 1 or more; got 0"),
        (lambda: Ciwae(1.5), r"share of the ELBO, in \[0, 1\]; got 1.5"),
        (lambda: Cubo(1.0), "order must be above 1; got 1.0"),
        (lambda: SkewJensenShannon(2.0), r"skew must lie in \[0, 1\]; got 2.0"),
        (lambda: MutualDivergence(smoothness=-1.0), "smoothness must be 0 or more; got -1.0"),
        (lambda: BatchLikelihood(0.0), "floor must be positive; got 0.0"),
    ],
)
def test_misuse_of_constructors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_misuse_of_posteriors_and_likelihoods():
    model, batch = relu_model("bernoulli")
    q = DiagonalGaussian(*torch.zeros(2, 8, 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="expects a Gaussian likelihood; got Bernoulli"):
        BatchLikelihood()(model, q, batch, 1)
    with pytest.raises(ValueError, match="expects a DiagonalGaussian posterior; got FullGaussian"):
        MutualDivergence()(model, FullGaussian(q.loc, pack(torch.eye(3).expand(8, 3, 3).double())), batch, 1)
    spread = Mixture((q,), torch.zeros(8, 1, dtype=DOUBLE))
    with pytest.raises(ValueError, match="batch information: expects a Gaussian posterior; got Mixture"):
        aggregate(spread)
