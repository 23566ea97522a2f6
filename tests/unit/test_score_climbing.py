"""Transport score climbing against posteriors that are known, and the way of its chains through the space of noise."""

import pytest
import torch
from scipy import stats

import methods
from chance import beyond, chi_square, deviates, p_value, within
from curvae.flows import Autoregressive, affine
from curvae.linalg import standard_normal_log_prob
from curvae.objectives import ScoreClimbing, monte_carlo_elbo
from curvae.posteriors import DiagonalGaussian, FullGaussian, transformed, transport
from curvae.training.loop.state import write_state
from zoo import D, LinearGaussian, TwoModes, batch_of


def coupled(count, size=D, scale=0.5, bend=2.0):
    """A coupling flow that bends: the image of a Gaussian that is none."""
    flow = Autoregressive(size, 2, 2, [8], affine(), passes=2).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(bend)
    start = DiagonalGaussian(torch.zeros(count, size).double(), torch.full((count, size), scale).double().log())
    return transformed(start, flow, torch.randn(count, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["diagonal", "full", "precision", "coupled"])
def test_transport_there_and_back(name):
    q = coupled(8) if name == "coupled" else methods.posterior(name)
    across, e = transport(q), torch.randn(3, 8, D, dtype=torch.float64)
    image = across.push(e)
    torch.testing.assert_close(across.pull(image.z), e)
    torch.testing.assert_close(standard_normal_log_prob(e) - image.log_det, q.log_prob(image.z))
    jacobian = torch.func.jacrev(lambda e: across.push(e.expand(1, 8, D)).z[0, 2])(e[0, 2])
    torch.testing.assert_close(
        torch.linalg.slogdet(jacobian).logabsdet, across.push(e[0, 2].expand(1, 8, D)).log_det[0, 2]
    )


def exact(oracle):
    factor = torch.linalg.cholesky(torch.linalg.inv(oracle.precision()))
    return FullGaussian(
        oracle.mean(), (factor.tril(-1) + torch.diag(factor.diagonal().log())).expand(len(oracle.x), -1, -1)
    )


def climb(objective, oracle, q, times):
    """Visits of all data, with their state written."""
    for _ in range(times):
        found = objective(oracle.model, q, oracle.batch)
        write_state(objective, found.state, oracle.batch.index, len(oracle.x))
    return found


@pytest.mark.statistical
@torch.no_grad()
@pytest.mark.parametrize("warped", [True, False])
def test_chains_leave_the_posterior_invariant_whatever_the_transport(warped):
    """1,000 exact draws for each of 3 examples, 8 visits under a bent flow: they are independent draws still.

    9 means are normal deviates, all squares a chi-square, and Kolmogorov and Smirnov see the rest: 7e-6 of seeds fail.
    """
    oracle = LinearGaussian(scale=1.0, count=3)
    oracle.x = oracle.x.repeat(1000, 1)
    oracle.batch = batch_of(oracle.x)
    begin = exact(oracle).draw(1).z[0]
    objective = ScoreClimbing(leapfrogs=3, step=0.2, warped=warped).double()
    objective.states = begin.clone()
    found = climb(objective, oracle, coupled(3000, scale=1.5, bend=1.0), 8)
    beyond("acceptance", found.info["acceptance"].mean(), 0.3)
    beyond("share that moved", ((objective.states - begin).abs() > 0.05).double().mean(), 0.5)
    z = oracle.whitened(objective.states)
    deviates("means", z.unflatten(0, (1000, 3)).mean(0) * 1000**0.5)
    chi_square("squares", z)
    p_value("law", stats.kstest(z.flatten(), "norm").pvalue)


@torch.no_grad()
def test_the_exact_transport_is_accepted_nearly_always():
    """And the same steps across latents of widths between 0.1 and 0.5 are not."""
    oracle = LinearGaussian(count=400, lengths=(3.0, 1.0, 0.5))
    objective = ScoreClimbing(step=0.25).double()
    assert objective(oracle.model, exact(oracle), oracle.batch).info["acceptance"].mean() > 0.98
    plain = ScoreClimbing(step=0.25, warped=False).double()
    assert plain(oracle.model, exact(oracle), oracle.batch).info["acceptance"].mean() < 0.9


def fitted(oracle, surrogate_of, steps=100):
    """One Gaussian for 64 copies of a datum, by Adam with a falling rate."""
    loc, log_scale = (torch.full((1, 1), value, dtype=torch.float64, requires_grad=True) for value in (0.5, -1.0))
    optimizer = torch.optim.Adam([loc, log_scale], 0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for _ in range(steps):
        q = DiagonalGaussian(loc.expand(64, 1), log_scale.expand(64, 1))
        loss = -surrogate_of(q).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loc.item(), log_scale.exp().item()


@pytest.mark.statistical
def test_it_finds_the_moments_of_a_posterior_that_is_no_gaussian():
    """64 chains over the last steps; limits by the tails over 200 seeds. The ELBO finds a narrower one."""
    oracle = TwoModes(scale=0.4)
    density = oracle.density()[:, 0]
    spread = (density * oracle.grid.square()).sum().sqrt().item()
    oracle.x = oracle.x[:1].repeat(64, 1)
    oracle.batch = batch_of(oracle.x)
    objective = ScoreClimbing(leapfrogs=2).double()
    objective.remember(64, oracle.model.prior)

    def climbed(q):
        found = objective(oracle.model, q, oracle.batch)
        write_state(objective, found.state, oracle.batch.index, 64)
        return found.surrogate

    loc, scale = fitted(oracle, climbed)
    within("mean", abs(loc), 0.25)
    within("standard deviation", abs(scale - spread), 0.06)
    by_elbo = fitted(oracle, lambda q: monte_carlo_elbo(oracle.model, q, oracle.batch, 32).surrogate)
    within("standard deviation by the ELBO, less the exact one", by_elbo[1] - spread, -0.02)


def test_chains_are_kept_by_index_as_z():
    oracle = LinearGaussian()
    objective = ScoreClimbing().double()
    objective.remember(20, oracle.model.prior)
    objective.states = objective.states.double()
    batch = oracle.batch._replace(index=torch.tensor([3, -1, 0, 7, 9, 12, 15, 19]))
    found = objective(oracle.model, exact(oracle), batch, 2)
    assert objective.states.isnan().all(), "forward is pure: the trainer writes the state"
    write_state(objective, found.state, batch.index, 20)
    assert objective.states.isfinite().all(1).nonzero().flatten().tolist() == [0, 3, 7, 9, 12, 15, 19]
    known = objective.states[[3, 0]].clone()
    objective.step.fill_(1e-9)
    again = objective(oracle.model, coupled(8), batch)
    torch.testing.assert_close(again.state["states"][[0, 2]], known, atol=1e-6, rtol=0)
    assert not again.state["states"].requires_grad


def test_model_and_posterior_learn_at_the_state():
    oracle = LinearGaussian()
    q = exact(oracle)
    loc = q.loc.clone().requires_grad_(True)
    found = ScoreClimbing().double()(oracle.model, FullGaussian(loc, q.packed), oracle.batch)
    objective = ScoreClimbing().double()
    objective.remember(8, oracle.model.prior)
    objective.states = objective.states.double()
    found = objective(oracle.model, FullGaussian(loc, q.packed), oracle.batch)
    z = found.state["states"].unsqueeze(0)
    expected = oracle.model.log_joint(oracle.x, z)[0] + q.log_prob(z)[0]
    torch.testing.assert_close(found.surrogate, expected)
    (slope,) = torch.autograd.grad(found.surrogate.sum(), loc)
    torch.testing.assert_close(slope, (oracle.precision() @ (z[0] - q.loc).mT).mT)


def test_the_step_follows_the_acceptance():
    oracle = LinearGaussian()
    for step, rate in ((0.01, 1.005), (30.0, 0.995)):
        objective = ScoreClimbing(step=step).double()
        found = objective(oracle.model, exact(oracle), oracle.batch)
        assert found.state["step"].item() == pytest.approx(step * rate)


def test_misuse():
    with pytest.raises(ValueError, match=r"leapfrogs >= 1, step > 0 and a target in \(0, 1\); got 0, 0.25 and 0.67"):
        ScoreClimbing(leapfrogs=0)
    for refused in ({"step": 0.0}, {"step": torch.nan}, {"target": 0.0}, {"target": 1.0}):
        with pytest.raises(ValueError, match="leapfrogs >= 1, step > 0 and a target"):
            ScoreClimbing(**refused)
    assert ScoreClimbing(leapfrogs=1).leapfrogs == 1
    oracle = LinearGaussian()
    with pytest.raises(ValueError, match="expects a Gaussian posterior, or an invertible flow from one; got Mixture"):
        ScoreClimbing()(oracle.model, methods.posterior("mixture"), oracle.batch)
    with pytest.raises(ValueError, match=r"warmup is a share of the time, in \[0, 1\); got 1.0"):
        methods.systems.tsc(methods.SPEC, warmup=1.0)
