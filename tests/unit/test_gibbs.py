"""Variational Gibbs inference: fixed points of EM, exact conditionals, chains that persist."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from chance import means, within
from curvae.data import from_array
from curvae.inference import ConstantGaussian, GibbsChains, Laplace, MixtureOfCompletions
from curvae.networks import ConditionalRegressions
from curvae.objectives import Bound
from curvae.systems import System, VariationalGibbs, gibbs_vae, learn_by_gibbs, nice
from curvae.systems.gibbs_stages import RegressObserved
from curvae.typing import Batch, DataSpec
from zoo import LinearGaussian

F64 = torch.float64


class GaussianDensity(System):
    """N(mean, L L') of two numbers: exact."""

    evidence = "exact"

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))
        self.factor = nn.Parameter(torch.eye(2))

    def law(self) -> MultivariateNormal:
        return MultivariateNormal(self.mean, scale_tril=self.factor.tril())

    def bound(self, batch: Batch) -> Bound:
        value = self.law().log_prob(batch.x)
        return Bound(value, value)


def em(x: torch.Tensor, mask: torch.Tensor, rounds: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the likeliest Gaussian of two numbers given what was observed, by EM."""
    mean, cov = torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)
    for _ in range(rounds):
        slope, rest = cov / cov.diagonal(), cov.diagonal() - cov[0, 1].square() / cov.diagonal().flip(0)
        alone = mean + (x - mean).flip(1) * torch.stack([slope[0, 1], slope[1, 0]])
        known = mask.flip(1)
        first = torch.where(mask, x, torch.where(known, alone, mean))
        left = torch.where(mask, 0.0, torch.where(known, rest, cov.diagonal()))
        both = (~mask).all(1).sum() * cov[0, 1] / len(x)
        mean = first.mean(0)
        off = first - mean
        cov = off.mT @ off / len(x) + torch.diag(left.mean(0)) + both * torch.eye(2).flip(0)
    return mean, cov


def learned(system: System, x: torch.Tensor, mask: torch.Tensor, steps: int, copies: int) -> System:
    """By variational Gibbs on all rows at once, at a rate that goes to 0; chains may go beyond what was observed."""
    system.chains = GibbsChains((2,), copies, ConditionalRegressions(2, [8]))
    system.double()
    system.chains.start_from(x, mask)
    system.chains.quantiles *= 2
    system.chains.remember(len(x), None)
    batch = Batch(torch.where(mask, x, 0.0), torch.arange(len(x)), mask)
    optimizer = torch.optim.Adam(system.parameters(), 0.05)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.025 * (1 + math.cos(math.pi * step / steps))
        bound = VariationalGibbs("chains", 1, observed=False)(system, batch)
        optimizer.zero_grad()
        (-bound.surrogate.mean()).backward()
        optimizer.step()
        system.chains.states.copy_(bound.state["chains.states"])
    return system


@pytest.mark.statistical
def test_the_fixed_point_is_that_of_em_and_conditionals_are_exact():
    """2-D Gaussian, 50 % MCAR: mean and covariance are those of EM, and the divergence of conditionals from the exact
    ones is near 0. Of 60 chains for each of 100 rows noise is left: limits are thrice the largest of 20 seeds."""
    law = MultivariateNormal(torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([[1.0, 0.9], [0.9, 1.5]], dtype=F64))
    x, mask = law.sample((100,)), torch.rand(100, 2) < 0.5
    mean, cov = em(x, mask)
    system = learned(GaussianDensity(), x, mask, steps=200, copies=60)
    found = system.law()
    within("mean", (found.mean - mean).abs().detach(), LIMITS["mean"])
    within("covariance", (found.covariance_matrix - cov).abs().detach(), LIMITS["covariance"])
    for j, k in ((0, 1), (1, 0)):
        others = x[mask[:, k], k]
        with torch.no_grad():
            q = system.chains.conditionals(others.unsqueeze(1).expand(-1, 2), torch.full((len(others),), j))
        slope = cov[j, k] / cov[k, k]
        rest = cov[j, j] - slope * cov[j, k]
        off = q.mean - (mean[j] + slope * (others - mean[k]))
        divergence = 0.5 * ((2 * q.log_scale).exp() / rest + off.square() / rest - 1 + rest.log()) - q.log_scale
        within("divergence", divergence.mean(), LIMITS["divergence"])


LIMITS = {"mean": 0.03, "covariance": 0.1, "divergence": 0.002}


def test_conditionals_of_a_gaussian_in_closed_form():
    """Of any precision; and the surrogate of a row with one hole is log p(x_o), whatever the draw, at exact ones."""
    root = torch.randn(2, 2, dtype=F64)
    system = GaussianDensity()
    with torch.no_grad():
        system.factor.copy_(torch.linalg.cholesky(root @ root.mT + torch.eye(2)))
        system.mean.copy_(torch.randn(2))
    system.chains = GibbsChains((2,), 3, ConditionalRegressions(2, [8]))
    system.double()
    law = system.law()
    system.chains.conditionals.start_from(law.mean.detach(), law.precision_matrix.detach())
    x = law.sample((6,))
    mask = torch.tensor([[True, False], [False, True]] * 3)
    x = torch.where(mask, x, 0.0)
    surrogates = []
    for _ in range(200):
        whole, entropy = system.chains.with_element(x, mask)
        surrogates.append(system.bound(Batch.of(whole)).surrogate + entropy)
    j = mask.long().argmax(1)
    exact = torch.distributions.Normal(law.mean[j], law.covariance_matrix.diagonal()[j].sqrt())
    expected = exact.log_prob(x.gather(1, j.unsqueeze(1)).squeeze(1))
    means("surrogate", torch.stack(surrogates).detach(), expected.detach())


def chains_of(x: torch.Tensor, mask: torch.Tensor, copies: int = 4) -> GibbsChains:
    chains = GibbsChains(tuple(x.shape[1:]), copies, ConditionalRegressions(x.shape[1], [8]))
    chains.start_from(x, mask)
    return chains


def rows(count: int = 6) -> Batch:
    mask = torch.rand(count, 3) < 0.5
    mask[0], mask[1] = True, False
    return Batch(torch.where(mask, torch.randn(count, 3), 0.0), torch.arange(count), mask)


def test_chains_begin_at_values_of_their_column_and_stay_in_its_range():
    batch = rows(40)
    chains = chains_of(batch.x, batch.mask)
    with torch.no_grad():
        chains.conditionals.log_scale.fill_(5.0)
    seen = [batch.x[batch.mask[:, j], j] for j in range(3)]
    begun, moved = chains.begun(batch), chains.moved(batch, 0)
    for j, values in enumerate(seen):
        assert torch.isin(begun[..., j][~batch.mask[:, j].expand(4, -1)], values).all()
        assert moved[..., j].amin() >= values.amin()
        assert moved[..., j].amax() <= values.amax()
    assert torch.equal(moved[:, batch.mask], batch.x[batch.mask].expand(4, -1))


def test_an_update_changes_one_missing_element_of_each_row():
    batch = rows()
    chains = chains_of(batch.x, batch.mask)
    x, mask = chains.begun(batch).flatten(0, 1), batch.mask.repeat(4, 1)
    changed = chains.redrawn(x, mask) != x
    assert (changed.sum(1) <= 1).all()
    assert not (changed & mask).any()
    assert changed.any()


def test_states_are_kept_by_the_row_of_the_training_table():
    """Known ones come back as they are; those of other rows, and of none, begin anew."""
    batch = rows()
    chains = chains_of(batch.x, batch.mask)
    chains.remember(10, None)
    states = torch.randn(6, 4, 3)
    chains.states[batch.index] = states
    found = chains.moved(batch, 0)
    assert torch.equal(found, torch.where(batch.mask, batch.x, states.transpose(0, 1)))
    other = batch._replace(index=batch.index.clone().index_fill(0, torch.tensor([1]), -1))
    assert (chains.begun(other)[:, 1] != states[1]).any()
    assert chains.moved(batch._replace(index=batch.index + 4), 0).isfinite().all()


def test_training_writes_the_chains_of_rows_with_holes_alone():
    x = torch.randn(60, 4)
    x[:, 1] += x[:, 0]
    system = gibbs_vae(DataSpec((4,)), latent=2, hidden=8, copies=3, width=8)
    data = from_array(torch.where(torch.rand(60, 4) < 0.6, x, torch.nan).numpy(), missing="mask")
    for prepare in (system.stages()[0].start, *system.stages()[1].prepare):
        prepare(system, data)
    assert [stage.name for stage in system.stages()] == ["regressions", "waiting", "gibbs"]
    batch = Batch(data.train.x[:8], torch.arange(8), data.train.mask[:8])
    bound = system.stages()[2].bound(system, batch)
    states = bound.state["inference.chains.states"]
    assert states.shape == (8, 3, 4)
    assert torch.equal(
        states[batch.mask.unsqueeze(1).expand(-1, 3, -1)],
        torch.where(batch.mask, batch.x, 0.0).unsqueeze(1).expand(-1, 3, -1)[batch.mask.unsqueeze(1).expand(-1, 3, -1)],
    )
    waiting = system.stages()[1].bound(system, batch)
    assert waiting.surrogate.isfinite().all()
    assert not VariationalGibbs()(system, batch._replace(mask=None)).state
    assert RegressObserved()(system, batch).surrogate.isfinite().all()


def test_regressions_start_at_those_of_a_linear_model():
    """Columns that follow one another: what is observed is far likelier given the others than alone."""
    x = torch.randn(400, 1) + 0.1 * torch.randn(400, 3)
    data = from_array(torch.where(torch.rand(400, 3) < 0.7, x, torch.nan).numpy(), missing="mask")
    system = gibbs_vae(DataSpec((3,)), latent=1, hidden=8, width=8)
    system.stages()[0].start(system, data)
    law = system.inference.chains.conditionals(torch.full((3, 3), 2.0), torch.arange(3))
    assert (law.mean - 2).abs().max() < 0.3  # alone it is 0; starts differ by 0.15 for some draws of 280 values
    assert (law.log_scale.exp() < 0.2).all()


@pytest.mark.statistical
@torch.no_grad()
def test_the_mixture_over_completions_gives_proper_weights():
    """Whatever the imputations: the evidence of what was observed of 8 rows, 8 deviates; bounded as in the contract."""
    oracle = LinearGaussian(scale=2.0, spread=0.4)
    mask = torch.rand(8, 10) < 0.5
    batch = Batch.of(torch.where(mask, oracle.x, 0.0), mask)
    chains = GibbsChains((10,), 3, ConditionalRegressions(10, [8])).double()
    chains.start_from(oracle.x, mask)
    q = MixtureOfCompletions(Laplace(ConstantGaussian(3), steps=1).double(), chains)(oracle.model, batch).posterior
    assert len(q.components) == 3
    draws = q.draw(4000)
    log_w = oracle.model.log_joint(batch.x, draws.z, mask) - draws.log_q
    each = []
    for row, seen in enumerate(mask):
        weight = oracle.weight[seen]
        law = MultivariateNormal(oracle.bias[seen], oracle.marginal().covariance_matrix[seen][:, seen])
        precision = torch.eye(3, dtype=F64) + weight.mT @ weight / oracle.scale**2
        center = torch.linalg.solve(precision, weight.mT @ (oracle.x[row][seen] - oracle.bias[seen]) / oracle.scale**2)
        exact = MultivariateNormal(center, precision_matrix=precision).log_prob(draws.z[:, row])
        narrow = MultivariateNormal(center, precision_matrix=6 * precision).log_prob(draws.z[:, row])
        each.append((log_w[:, row] - law.log_prob(oracle.x[row][seen]) + narrow - exact).exp())
    means("weights", torch.stack(each, 1).unflatten(0, (3, -1)).mean(0))


def test_block_chains_of_an_exact_model_have_the_law_of_what_is_missing():
    """z ~ p(z | x) exactly, then x_m ~ p(x_m | z): of 400 chains the means of what is missing, by 6 sigma."""
    oracle = LinearGaussian(scale=1.0)
    mask = torch.rand(8, 10) < 0.7
    batch = Batch.of(torch.where(mask, oracle.x, 0.0), mask)
    chains = GibbsChains((10,), 400).double()
    chains.start_from(oracle.x, torch.ones_like(mask))
    inference = MixtureOfCompletions(Laplace(ConstantGaussian(3), steps=1).double(), chains)
    with torch.no_grad():
        found = chains.moved(batch, 60, inference.kernel(oracle.model))
    full = oracle.marginal().covariance_matrix
    for row, seen in enumerate(mask):
        gain = full[~seen][:, seen] @ torch.linalg.inv(full[seen][:, seen])
        expected = oracle.bias[~seen] + gain @ (oracle.x[row][seen] - oracle.bias[seen])
        left = (full[~seen][:, ~seen] - gain @ full[seen][:, ~seen]).diagonal()
        assert ((found[:, row][:, ~seen].mean(0) - expected).abs() < 6 * (left / 400).sqrt()).all()


def test_a_density_learns_from_rows_with_holes():
    """NICE, whose own bound refuses holes: it starts at completed rows, and its surrogate rises."""
    x = torch.randn(80, 1) + 0.3 * torch.randn(80, 3)
    data = from_array(torch.where(torch.rand(80, 3) < 0.7, x, torch.nan).numpy(), missing="mask")
    system = learn_by_gibbs(nice(DataSpec((3,)), hidden=8), DataSpec((3,)), copies=3, width=8)
    for prepare in (system.stages()[0].start, *system.stages()[1].prepare):
        prepare(system, data)
    batch = Batch(data.train.x, torch.arange(len(data.train)), data.train.mask)
    optimizer, levels = torch.optim.Adam(system.parameters(), 0.01), []
    for _ in range(30):
        bound = system.stages()[2].bound(system, batch)
        optimizer.zero_grad()
        (-bound.surrogate.mean()).backward()
        optimizer.step()
        system.chains.states[batch.index] = bound.state["chains.states"]
        levels.append(bound.surrogate.mean().item())
    assert sum(levels[-5:]) > sum(levels[:5])


def test_misuse():
    with pytest.raises(ValueError, match="gibbs-vae expects data that are real numbers; got support 'count'"):
        gibbs_vae(DataSpec((4,), "count"), latent=1)
    with pytest.raises(ValueError, match="rows of 2 elements or more; got 1"):
        gibbs_vae(DataSpec((1,)), latent=1)
    with pytest.raises(ValueError, match=r"delay is a share of the time, in \[0, 0.9\); got 1.0"):
        gibbs_vae(DataSpec((4,)), latent=1, delay=1.0)
    with pytest.raises(ValueError, match="copies must be 1 or more; got 0"):
        gibbs_vae(DataSpec((4,)), latent=1, copies=0)
    with pytest.raises(ValueError, match="expected conditionals, got None"):
        GibbsChains((3,), 2).with_element(torch.zeros(2, 3), torch.zeros(2, 3) > 0)
    assert gibbs_vae(DataSpec((4,), "count"), latent=1, block=True).inference.chains.conditionals is None
