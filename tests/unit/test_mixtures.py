"""Mixtures: stratified draws, the recursive bound, Laplace at several modes."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

import methods
from curvae.inference import AmortizedGaussian, AmortizedMixture, Inference, Inferred, Laplace, MultimodalLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import RecursiveElbo, log_mean_exp, log_weights, monte_carlo_elbo
from curvae.posteriors import DiagonalGaussian, Draws, FullGaussian, Mixture, Posterior
from curvae.priors import StandardNormal
from curvae.typing import Batch
from zoo import LinearGaussian, TwoModes, relu_model


def diagonal(count: int = 8, size: int = methods.D) -> DiagonalGaussian:
    return DiagonalGaussian(*(0.5 * torch.randn(2, count, size, dtype=torch.float64)))


def two(left: float, right: float, count: int = 1, scale: float = 0.0) -> Mixture:
    parts = (
        DiagonalGaussian(torch.full((count, 1), m).double(), torch.full((count, 1), scale).double())
        for m in (left, right)
    )
    return Mixture(tuple(parts), torch.zeros(count, 2, dtype=torch.float64))


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
    q = Mixture((diagonal(4), diagonal(4)), torch.randn(4, 2, dtype=torch.float64))
    for end, mass in zip(q.interval(0.8), (0.1, 0.9), strict=True):
        each = [Normal(part.mean, part.variance.sqrt()).cdf(end) for part in q.components]
        below = sum(w[:, None] * part for w, part in zip(q.log_weights.exp(), each, strict=True))
        torch.testing.assert_close(below, torch.full_like(below, mass), atol=1e-12, rtol=0)


def test_interval_from_draws_where_a_component_is_not_gaussian():
    inner, outer = two(-2.0, 2.0), two(-2.0, 2.0)
    nested = Mixture((inner, outer), torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(torch.cat(nested.interval(0.8)), torch.cat(inner.interval(0.8)), atol=0.1, rtol=0)
    assert nested.draw(3).z.shape == (nested.count(3), 1, 1) == (12, 1, 1)


def test_search_starts_at_a_mode_not_between_two():
    q = two(-2.0, 2.0)
    assert q.mean.item() == 0
    assert q.center.abs().item() == 2


def test_copies_change_nothing():
    q = Mixture((diagonal(), diagonal()), torch.randn(8, 2, dtype=torch.float64))
    share = q.logits - torch.tensor([math.log(2), 0.0])
    again = Mixture((*q.components, q.components[0]), torch.cat([share, share[:, :1]], 1))
    z = torch.randn(5, 8, methods.D, dtype=torch.float64)
    torch.testing.assert_close(again.log_prob(z), q.log_prob(z))
    torch.testing.assert_close(again.covariance, q.covariance)


def test_a_component_without_weight_leaves_the_mixture_before_it():
    q = Mixture((diagonal(), diagonal()), torch.randn(8, 2, dtype=torch.float64))
    grown = Mixture((*q.components, diagonal()), torch.cat([q.logits, q.logits[:, :1] - 60], 1))
    z = torch.randn(5, 8, methods.D, dtype=torch.float64)
    torch.testing.assert_close(grown.log_prob(z), q.log_prob(z))
    model, batch = relu_model("gaussian")
    whole = RecursiveElbo()(model, grown, batch, 4000).value
    torch.testing.assert_close(whole, RecursiveElbo()(model, q, batch, 4000).value, atol=0.5, rtol=0.02)


def test_stratified_bound_and_its_gradient_by_quadrature():
    """ELBO = sum_k pi_k E_k[log p - log Q]; 6 standard errors at 20,000 draws of each component."""
    oracle = TwoModes()
    logits = torch.tensor([[0.3, -0.5]] * 3, dtype=torch.float64, requires_grad=True)
    q = Mixture(two(-0.9, 1.2, 3, -1.0).components, logits)
    z = oracle.grid[:, None, None].expand(-1, 3, 1)
    log_q = q.log_prob(z)
    gap = oracle.grid[1] - oracle.grid[0]
    exact = (log_q.exp() * (oracle.model.log_joint(oracle.x, z) - log_q)).sum(0) * gap
    found = monte_carlo_elbo(oracle.model, q, oracle.batch, 20_000).value
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)
    expected, got = (torch.autograd.grad(value.sum(), logits)[0] for value in (exact, found))
    torch.testing.assert_close(got, expected, atol=0.05, rtol=0)


def test_a_scored_component_keeps_its_score():
    class Scored(DiagonalGaussian):
        def draw(self, n, generator=None) -> Draws:
            draws = super().draw(n, generator)
            return draws._replace(score=draws.log_q)

    plain = diagonal()
    scored = Scored(plain.loc, plain.log_scale)
    draws = Mixture((plain, scored), torch.zeros(8, 2, dtype=torch.float64)).draw(3)
    assert (draws.score[:3] == 0).all()
    assert (draws.score[3:] != 0).all()


def test_misuse():
    with pytest.raises(ValueError, match=r"one logit for each of 1 or more components; got 1 components and logits"):
        Mixture((diagonal(),), torch.zeros(8, 2))
    with pytest.raises(ValueError, match="expects 1 or more components; got none"):
        AmortizedMixture([], nn.Linear(1, 1))
    with pytest.raises(ValueError, match="components must be 1 or more; got 0"):
        MultimodalLaplace(AmortizedGaussian(nn.Linear(1, 2)), components=0)
    with pytest.raises(ValueError, match="must be 0 or more; got -1"):
        RecursiveElbo(strength=-1)


def test_components_must_have_a_density():
    class Blind(Posterior):
        tensors = center = mean = covariance = with_tensors = draw = interval = None

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
    parts[1].remember(8, methods.D)
    found = AmortizedMixture(parts, methods.encoder(2))(model, batch)
    each = [part(model, batch) for part in parts]
    torch.testing.assert_close(found.encoder_bound, sum(part.encoder_bound for part in each))
    torch.testing.assert_close(found.state["components.1.modes"], each[1].state["modes"])


# --- the recursive bound -----------------------------------------------------------------------------------------


@pytest.fixture
def case():
    """A mixture of three with leaves, a smooth model, and the draws that a seed gives."""
    decoder = nn.Sequential(nn.Linear(methods.D, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    model = LatentVariableModel(StandardNormal(methods.D), decoder, Gaussian(4, learn="shared")).double()
    batch = Batch(torch.randn(5, 4, dtype=torch.float64), torch.arange(5))
    q = Mixture(tuple(diagonal(5) for _ in range(3)), torch.randn(5, 3, dtype=torch.float64))
    leaves = {name: value.clone().requires_grad_(True) for name, value in q.tensors.items()}
    return model, batch, q.with_tensors(leaves), leaves


def seeded(objective, model, q, batch, samples=4):
    torch.manual_seed(7)
    return objective(model, q, batch, samples)


def slope(value, leaves):
    grads = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), grads, strict=True)
    return {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in pairs}


def test_its_value_is_the_stratified_bound(case):
    model, batch, q, _ = case
    bound = seeded(RecursiveElbo(), model, q, batch)
    torch.testing.assert_close(bound.value, seeded(monte_carlo_elbo, model, q, batch).value)
    torch.testing.assert_close(bound.surrogate, bound.value)
    assert not bound.value.requires_grad


def test_the_model_climbs_the_whole_bound(case):
    model, batch, q, _ = case
    parameters = dict(model.named_parameters())
    ours = slope(seeded(RecursiveElbo(), model, q, batch).surrogate, parameters)
    theirs = slope(seeded(monte_carlo_elbo, model, q, batch).value, parameters)
    for name in parameters:
        torch.testing.assert_close(ours[name], theirs[name])


def test_each_component_climbs_its_own_bound_and_away_from_those_before(case):
    """Against the same terms built one component at a time."""
    model, batch, q, leaves = case
    objective = RecursiveElbo(strength=0.7, cap=2.0)
    found = slope(seeded(objective, model, q, batch).surrogate, leaves)
    torch.manual_seed(7)
    draws = [part.draw(4) for part in q.components]
    for m, (part, drawn) in enumerate(zip(q.components, draws, strict=True)):
        term = (model.log_joint(batch.x, drawn.z) - drawn.log_q).mean(0)
        if m:
            before = Mixture(q.components[:m], q.logits[:, :m])
            before = before.with_tensors({name: value.detach() for name, value in before.tensors.items()})
            away = (drawn.log_q - before.log_prob(drawn.z)).mean(0)
            term = term + 0.7 * away.clamp(max=2.0)
        own = {f"{m}.{name}": value for name, value in part.tensors.items()}
        expected = slope(term, own)
        for name in own:
            torch.testing.assert_close(found[name], expected[name])


def test_each_share_climbs_the_bound_of_the_mixture_so_far(case):
    """Central differences of ELBO(Q_m), draws fixed, in the share e_m alone."""
    model, batch, q, leaves = case
    found = slope(seeded(RecursiveElbo(), model, q, batch).surrogate, leaves)["logits"]
    torch.manual_seed(7)
    draws = [part.draw(4).z.detach() for part in q.components]

    def elbo(m, shift):
        weights = q.logits[:, : m + 1].detach() + shift * torch.eye(3, dtype=torch.float64)[m, : m + 1]
        so_far = Mixture(q.components[: m + 1], weights)
        terms = [(model.log_joint(batch.x, z) - so_far.log_prob(z)).mean(0) for z in draws[: m + 1]]
        return (so_far.log_weights.exp() * torch.stack(terms)).sum(0).detach()

    for m in (1, 2):
        expected = (elbo(m, 1e-5) - elbo(m, -1e-5)) / 2e-5
        torch.testing.assert_close(found[:, m], expected, atol=1e-7, rtol=1e-6)
    assert (found[:, 0] == 0).all(), "the first component takes what the others leave"


def test_the_divergence_drives_equal_components_apart():
    """At strength 0 both climb the same bound, so the second of two wide ones is pulled in by the same right mode."""
    oracle = TwoModes()
    pulls = {}
    for strength in (0.0, 1.0):
        q = Mixture((two(1.5, 1.2, 3, -1.0).components), torch.zeros(3, 2, dtype=torch.float64))
        leaves = {name: value.clone().requires_grad_(True) for name, value in q.tensors.items()}
        bound = seeded(RecursiveElbo(strength, cap=100), oracle.model, q.with_tensors(leaves), oracle.batch, 2000)
        pulls[strength] = slope(bound.surrogate, leaves)["1.loc"][2]
    assert pulls[0.0] > 1, "towards 1.55"
    assert pulls[1.0] < pulls[0.0] - 1


def test_it_finds_both_modes():
    """x = z^2 + noise; a plain mixture leaves its second component unused and misses log 2 of the third evidence."""
    oracle = TwoModes()
    missing = {}
    for name, objective in {"recursive": RecursiveElbo(), "plain": monte_carlo_elbo}.items():
        torch.manual_seed(0)
        start = {"logits": torch.zeros(3, 2), "0.loc": torch.full((3, 1), 0.8), "1.loc": torch.full((3, 1), 0.2)}
        start |= {"0.log_scale": torch.full((3, 1), -1.0), "1.log_scale": torch.zeros(3, 1)}
        leaves = {key: value.double().requires_grad_(True) for key, value in start.items()}
        q, optimizer = two(0.0, 0.0, 3), torch.optim.Adam(leaves.values(), lr=0.08)
        for _ in range(200):
            bound = objective(oracle.model, q.with_tensors(leaves), oracle.batch, 12)
            optimizer.zero_grad()
            (-bound.surrogate.sum()).backward()
            optimizer.step()
        found = monte_carlo_elbo(oracle.model, q.with_tensors(leaves), oracle.batch, 5000).value.detach()
        missing[name] = oracle.log_evidence() - found
    assert (missing["recursive"] < 0.15).all()
    assert missing["plain"][2] > 0.5


def test_the_best_mixture_is_above_its_best_component():
    """Two equal halves that lie apart: the bound of both is that of either and log 2, 0.69 nats."""
    oracle = TwoModes()
    halves = two(-1.5, 1.5, 3, -1.6)
    mixed, *alone = (monte_carlo_elbo(oracle.model, q, oracle.batch, 4000).value for q in (halves, *halves.components))
    assert mixed[2] > max(one[2] for one in alone) + 0.6


# --- Laplace at several modes ------------------------------------------------------------------------------------


class Tilted(nn.Module):
    """eta = z^2 + z / 4: two modes of unequal mass."""

    def forward(self, z):
        return z.square() + 0.25 * z


def encoder() -> AmortizedGaussian:
    network = nn.Linear(1, 2).double()
    nn.init.constant_(network.bias, 0.5)
    return AmortizedGaussian(network)


def several(components: int = 8) -> MultimodalLaplace:
    return MultimodalLaplace(encoder(), components, partial(Laplace, steps=10))


def test_both_modes_where_a_single_one_misses_half_of_the_evidence():
    """Importance estimates of 20,000 draws of each; the third datum's modes lie 8 standard deviations apart."""
    oracle = TwoModes()
    found = {}
    for name, method in {"one": Laplace(encoder(), 10), "several": several()}.items():
        draws = method(oracle.model, oracle.batch).posterior.draw(20_000, torch.Generator().manual_seed(0))
        found[name] = log_mean_exp(log_weights(oracle.model, oracle.batch, draws), draws.log_c).detach()
    missing = {name: oracle.log_evidence() - value for name, value in found.items()}
    assert abs(missing["one"][2] - math.log(2)) < 0.02
    assert (missing["several"][1:].abs() < 0.03).all()


def test_weights_are_the_masses_of_the_modes():
    model = LatentVariableModel(StandardNormal(1), Tilted(), Gaussian(1, scale=0.2)).double()
    x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    found = several()(model, Batch(x, torch.arange(2)))
    grid = torch.linspace(-6, 6, 40_001, dtype=torch.float64)[:, None, None].expand(-1, 2, 1)
    mass = model.log_joint(x, grid).softmax(0)
    right = (mass * (grid[..., 0] > 0)).sum(0)
    positive = torch.stack([part.loc[:, 0] > 0 for part in found.posterior.components])
    weight = (found.posterior.log_weights.exp() * positive).sum(0)
    torch.testing.assert_close(weight, right, atol=0.01, rtol=0)
    assert (abs(weight - 0.5) > 0.05).all()
    torch.testing.assert_close(found.info["modes"], torch.full((2,), 2.0, dtype=torch.float64), atol=1e-3, rtol=0)


def test_copies_of_one_mode_share_its_weight():
    oracle = LinearGaussian()
    start = AmortizedGaussian(methods.encoder(2 * methods.D))
    found = MultimodalLaplace(start, 3)(oracle.model, oracle.batch)
    alone = Laplace(start)(oracle.model, oracle.batch)
    torch.testing.assert_close(found.posterior.log_weights.exp(), torch.full((3, 8), 1 / 3).double())
    torch.testing.assert_close(found.info["modes"], torch.ones(8).double())
    z = torch.randn(4, 8, methods.D, dtype=torch.float64)
    torch.testing.assert_close(found.posterior.log_prob(z), alone.posterior.log_prob(z))
    torch.testing.assert_close(found.encoder_bound, alone.encoder_bound)


def test_info_is_that_of_the_heaviest_component():
    oracle = TwoModes()
    found = several(4)(oracle.model, oracle.batch)
    assert found.info["status"].shape == (3,)
    assert found.info["log_joint"].shape[1:] == (3,)
    end = oracle.model.log_joint(oracle.x, found.posterior.center[None])[0]
    torch.testing.assert_close(found.info["log_joint"][-1], end.detach())


def test_it_draws_the_same_starts_each_time():
    oracle = TwoModes()
    method = several(4)
    one, two_ = (method(oracle.model, oracle.batch).posterior for _ in range(2))
    assert torch.equal(one.logits, two_.logits)


def test_full_components_also_split():
    q = FullGaussian(torch.zeros(2, 1), torch.zeros(2, 1, 1))
    assert Mixture((q, q), torch.zeros(2, 2)).covariance.shape == (2, 1, 1)
