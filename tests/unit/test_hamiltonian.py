"""The Hamiltonian VAE, annealed posteriors and Hamiltonian Monte Carlo on models whose evidence is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from chance import beyond, chi_square, deviates, means, p_value, within
from curvae.dynamics import tempered_leapfrog
from curvae.inference import (
    AmortizedGaussian,
    AnnealedHMC,
    FreeTempering,
    HamiltonianFlow,
    Inferred,
    NoTempering,
    QuadraticTempering,
    hmc_chains,
)
from curvae.inference.inference import Inference
from curvae.linalg import standard_normal_log_prob
from curvae.objectives import iwae, log_weights
from curvae.posteriors import AnnealedPosterior, Chains, DiagonalGaussian, HamiltonianPosterior
from zoo import D, LinearGaussian, TwoModes, smooth_model


def detuned(oracle, width=0.3):
    """Off the exact mean, of the wrong width."""
    mean = oracle.mean() if isinstance(oracle, LinearGaussian) else torch.zeros_like(oracle.x)
    return DiagonalGaussian(mean + 0.3, torch.full_like(mean, math.log(width)))


def hamiltonian(model, batch, start, steps=5, step=0.2, temperature=1.0):
    """Sqrt(T) falls quadratically from the given temperature."""
    size = start.loc.shape[-1]
    schedule = NoTempering() if temperature == 1 else QuadraticTempering(temperature)
    log_step = torch.full((len(batch.x), steps, size), math.log(step), dtype=torch.float64)
    log_temperature = schedule.double()(steps).detach().double().expand(len(batch.x), -1)
    return HamiltonianPosterior(start, model, batch.x, log_step, log_temperature, batch.mask)


def annealed(model, batch, start, steps=20, step=0.2, **options):
    size = start.loc.shape[-1]
    log_step = torch.full((len(batch.x), steps, size), math.log(step), dtype=torch.float64)
    betas = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return AnnealedPosterior(start, model, batch.x, log_step, betas, mask=batch.mask, **options)


def begin(oracle):
    """Wider than the posterior, and off its mean."""
    if isinstance(oracle, TwoModes):
        return DiagonalGaussian(torch.full_like(oracle.x, 0.3), torch.zeros_like(oracle.x))
    wide = oracle.covering()
    return DiagonalGaussian(wide.loc + 0.3 * wide.variance.sqrt(), wide.log_scale)


@torch.no_grad()
def drawn(oracle, posterior, count):
    """Importance weights over the exact evidence, whose mean is 1, and the draws."""
    draws = posterior.draw(count)
    return (log_weights(oracle.model, oracle.batch, draws) - oracle.log_evidence()).exp(), draws.z


def assert_proper(oracle, posterior, count):
    """Where the evidence is Gaussian, times the ratio of a narrow density: that bounds what a few draws can weigh."""
    weight, z = drawn(oracle, posterior, count)
    bounded = weight if isinstance(oracle, TwoModes) else weight * oracle.narrow(z).exp()
    means(type(oracle).__name__, bounded)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_extended_density_by_change_of_variables(temperature):
    """log q of the end = that of the start less log |det| of the whole map, by automatic differentiation."""
    model, batch = smooth_model(1)
    start = DiagonalGaussian(*(0.3 * torch.randn(2, 1, D, dtype=torch.float64)))
    posterior = hamiltonian(model, batch, start, 4, 0.3, temperature)
    draws = posterior.draw(1, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    z = start.draw(1, generator).z
    first = posterior.log_temperature[0, 0].exp()
    momentum = first.sqrt() * torch.randn(1, 1, D, generator=generator, dtype=torch.float64)

    def flow(both):
        z, momentum = both.reshape(1, 1, 2 * D).chunk(2, -1)
        levels = torch.cat([posterior.log_temperature[0], torch.zeros(1).double()]).exp()
        cooling = (levels[1:] / levels[:-1]).sqrt().unsqueeze(-1)
        step = posterior.log_step.transpose(0, 1).exp()
        return torch.cat(tempered_leapfrog(posterior.log_joint, z, momentum, step, cooling), -1).flatten()

    both = torch.cat([z, momentum], -1).flatten()
    end = flow(both).reshape(1, 1, 2 * D)
    log_det = torch.linalg.slogdet(torch.func.jacrev(flow)(both)).logabsdet
    torch.testing.assert_close(log_det, -D / 2 * first.log())
    torch.testing.assert_close(draws.z, end[..., :D])
    before = start.log_prob(z) + torch.distributions.Normal(0, first.sqrt()).log_prob(momentum).sum(-1)
    expected = before - log_det - standard_normal_log_prob(end[..., D:])
    torch.testing.assert_close(draws.log_q, expected, atol=1e-10, rtol=0)


def test_no_step_is_the_start():
    model, batch = smooth_model()
    start = DiagonalGaussian(*(0.3 * torch.randn(2, 8, D, dtype=torch.float64)))
    still = hamiltonian(model, batch, start, 3, 1e-12).draw(4, torch.Generator().manual_seed(1))
    plain = start.draw(4, torch.Generator().manual_seed(1))
    torch.testing.assert_close(still.z, plain.z)
    torch.testing.assert_close(still.log_q, plain.log_q)


@pytest.mark.statistical
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_hamiltonian_weights_are_proper(temperature):
    """The evidence of 8 + 3 examples from 4,000 bounded weights: 11 normal deviates, 6e-6 of the seeds fail.

    Seen: a log-density that is 0.1 nats off, as without the momentum's temperature in it.
    """
    for oracle, step in ((LinearGaussian(), 0.1), (TwoModes(), 0.05)):
        assert_proper(oracle, hamiltonian(oracle.model, oracle.batch, begin(oracle), 5, step, temperature), 4000)


def test_hamiltonian_bound_is_above_that_of_its_start():
    """Where q_0 is wide and off the mean; it is the cooling that does it, as dynamics alone preserve the energy."""
    oracle = LinearGaussian(lengths=(1.0, 1.0, 1.0))
    start = detuned(oracle, 0.5)
    before, still, cooled = (
        drawn(oracle, q, 2000)[0].log().mean(0)
        for q in (start, *(hamiltonian(oracle.model, oracle.batch, start, 5, 0.1, t) for t in (1.0, 2.5)))
    )
    assert ((still - before).abs() < 1).all(), "eight of its standard errors"
    assert (cooled > torch.maximum(before, still) + 1).all()
    assert (cooled < 0).all()


@pytest.mark.statistical
@pytest.mark.parametrize("options", [{}, {"leapfrogs": 3}, {"metropolis": True}])
def test_annealed_weights_are_proper(options):
    """The evidence of 8 + 3 examples from 2,000 bounded weights: 11 normal deviates, 6e-6 of the seeds fail."""
    for oracle, step in ((LinearGaussian(scale=0.5), 0.25), (TwoModes(), 0.12)):
        assert_proper(oracle, annealed(oracle.model, oracle.batch, begin(oracle), 10, step, **options), 2000)


@pytest.mark.statistical
def test_annealing_with_metropolis_ends_at_the_exact_posterior():
    """Weighted moments of |z| of a two-mode posterior: 9 normal deviates, 5e-6 of the seeds fail."""
    oracle = TwoModes()
    density = oracle.density()
    posterior = annealed(oracle.model, oracle.batch, begin(oracle), 20, 0.1, metropolis=True)
    weight, z = drawn(oracle, posterior, 4000)
    for power in (1, 2):
        exact = (density * oracle.grid[:, None].abs() ** power).sum(0)
        means(f"moment {power}", weight * (z[..., 0].abs() ** power - exact), 0.0)
    means("both modes are found", weight * (z[..., 0].sign()), 0.0)


def test_choices_of_metropolis_are_in_the_score():
    model, batch = smooth_model()
    start = DiagonalGaussian(*torch.zeros(2, 8, D, dtype=torch.float64))
    assert annealed(model, batch, start).draw(2).score is None
    draws = annealed(model, batch, start, metropolis=True).draw(50)
    assert (draws.score <= 0).all()
    assert (draws.score < 0).any()
    with pytest.raises(ValueError, match="path gradients needs 2 draws or more; got 1"):
        iwae(model, annealed(model, batch, start, metropolis=True), batch, 1)


class Uncertain(Inference):
    """A posterior without a density."""

    def forward(self, model, batch):
        return Inferred(Chains(torch.zeros(len(batch.x), 1, 4, D)))


def test_learned_steps_stay_within_their_bounds():
    start = AmortizedGaussian(torch.nn.Linear(10, 6))
    for per_step in (False, True):
        steps = HamiltonianFlow(start, D, 4, step=0.2, per_step=per_step).steps
        torch.testing.assert_close(steps(7).exp(), torch.full((7, 4, D), 0.2))
        steps.raw.data += 50
        assert (steps(7).exp() <= 0.5).all()
    with pytest.raises(ValueError, match=r"1 or more, of a length in \(0, 0.5\); got 4, 0.7"):
        HamiltonianFlow(start, D, 4, step=0.7)
    model, batch = smooth_model()
    with pytest.raises(ValueError, match="start must give a posterior with a density; got Chains"):
        AnnealedHMC(Uncertain(), D)(model, batch)


def test_tempering_ends_at_one():
    """The factor a_K after the last step brings the temperature to 1, whatever the schedule."""
    quadratic = QuadraticTempering(4.0)(4).exp().sqrt()
    torch.testing.assert_close(quadratic, torch.tensor([2 - (k / 4) ** 2 for k in range(4)]))
    free = FreeTempering(3, 0.8)
    free.logits.data = torch.tensor([0.1, 0.5, 0.9]).logit()
    levels = torch.nn.functional.pad(free(3), (0, 1)).exp()
    torch.testing.assert_close((levels[1:] / levels[:-1]).sqrt(), torch.tensor([0.1, 0.5, 0.9]))
    assert (NoTempering()(3) == 0).all()
    assert not QuadraticTempering(2.0, learned=False).excess.requires_grad
    with pytest.raises(ValueError, match=r"must be above 1; got 1.0. Use NoTempering\(\)"):
        QuadraticTempering(1.0)
    with pytest.raises(ValueError, match=r"factor in \(0, 1\); got 3 and 1.5"):
        FreeTempering(3, 1.5)
    with pytest.raises(ValueError, match="made for 3 steps; got 4"):
        free(4)


# chains


@pytest.mark.statistical
def test_chains_reproduce_a_gaussian_posterior():
    """200 chains that do not know of one another: their last states are independent draws of the posterior.

    24 means, exactly normal, and a chi-square of all squares with 4,800 degrees of freedom: 2e-5 of the seeds fail.
    """
    oracle = LinearGaussian(scale=0.5)
    found = hmc_chains(oracle.model, oracle.batch, detuned(oracle), chains=200, samples=4, warmup=40, leapfrogs=5)
    z = oracle.whitened(found.posterior.states[:, :, -1].transpose(0, 1))
    deviates("means", z.mean(0) * 200**0.5)
    chi_square("squares", z)


@pytest.mark.statistical
def test_chains_mix_and_say_how_well():
    """The worst of 8 examples; limits by the tails over 200 seeds.

    Seen: trajectories of nearly one length, whose ESS is 100 to 900 here, for 1,300 to 2,500.
    """
    oracle = LinearGaussian(scale=0.5)
    found = hmc_chains(oracle.model, oracle.batch, detuned(oracle), 16, 100, 40, leapfrogs=5)
    scale = torch.linalg.inv(oracle.precision()).diagonal().sqrt()
    within("R-hat", found.info["r_hat"], 1.08)
    beyond("log10 ESS", found.info["ess"].log10(), math.log10(600))
    within("acceptance off target", (found.info["acceptance"] - 0.8).abs(), 0.2)
    low, high = found.posterior.interval(0.9)
    within("90 % interval", ((high - low) / 2 / (1.645 * scale) - 1).abs(), 0.2)


@pytest.mark.statistical
def test_chains_find_both_modes_and_say_when_they_do_not():
    """150 chains: the last |z| of each against quadrature by Kolmogorov and Smirnov, whose law is exact: 3e-6 fail.

    Modes too far apart show in the R-hat, whose limits are by the tails over 200 seeds.
    """
    oracle = TwoModes()
    wide = DiagonalGaussian(torch.zeros(3, 1).double(), torch.zeros(3, 1).double())
    states = hmc_chains(oracle.model, oracle.batch, wide, 150, 30, 50, leapfrogs=5).posterior.states
    below = oracle.density().cumsum(0)
    for x, each in enumerate(states[:, :, -1, 0].abs()):
        both = [np.interp(sign * each, oracle.grid, below[:, x]) for sign in (1, -1)]
        p_value("|z|", stats.kstest(both[0] - both[1], "uniform").pvalue)
    r_hat = Chains(states).r_hat
    within("R-hat, no barrier", r_hat[0], 1.15)
    beyond("R-hat, 20 nats between the modes", r_hat[2], 1.5)
    within("R-hat of |z|", Chains(states.abs()).r_hat[2], 1.2)


def test_chains_repeat_by_their_generator_and_leave_torchs_alone():
    oracle = LinearGaussian()
    before = torch.get_rng_state()
    one, two = (
        hmc_chains(oracle.model, oracle.batch, detuned(oracle), 2, 4, 4, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(one.posterior.states, two.posterior.states)
    assert torch.equal(before, torch.get_rng_state())
    assert one.posterior.draw(3).log_q.isnan().all(), "the density of a state is not known"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"samples": 3}, "samples must be 4 or more; got 3"),
        ({"warmup": 0}, "warmup must be 1 or more; got 0"),
        ({"target": 80}, r"in \(0, 1\); got 80"),
    ],
)
def test_misuse_of_chains(argument, message):
    oracle = LinearGaussian()
    with pytest.raises(ValueError, match=message):
        hmc_chains(oracle.model, oracle.batch, detuned(oracle), **argument)
