"""The recursive bound: each component of a mixture against those before it."""

import pytest
import torch
from torch import nn

import methods
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import RecursiveElbo, monte_carlo_elbo
from curvae.posteriors import Mixture
from curvae.priors import StandardNormal
from curvae.typing import Batch
from zoo import TwoModes, two_normals


@pytest.fixture
def case():
    """A mixture of three with leaves, a smooth model, and the draws that a seed gives."""
    decoder = nn.Sequential(nn.Linear(methods.D, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    model = LatentVariableModel(StandardNormal(methods.D), decoder, Gaussian(4, learn="shared")).double()
    batch = Batch(torch.randn(5, 4, dtype=torch.float64), torch.arange(5))
    q = Mixture(tuple(methods.posterior("diagonal", 5) for _ in range(3)), torch.randn(5, 3, dtype=torch.float64))
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
        q = Mixture((two_normals(1.5, 1.2, 3, -1.0).components), torch.zeros(3, 2, dtype=torch.float64))
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
        q, optimizer = two_normals(0.0, 0.0, 3), torch.optim.Adam(leaves.values(), lr=0.08)
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
    halves = two_normals(-1.5, 1.5, 3, -1.6)
    mixed, *alone = (monte_carlo_elbo(oracle.model, q, oracle.batch, 4000).value for q in (halves, *halves.components))
    assert mixed[2] > max(one[2] for one in alone) + 0.6
