"""Models of sequences against the Kalman filter, and what their parts promise."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import Normal

import curvae
from curvae.linear import StateSpace
from curvae.sequences import LayeredNormal, frame_shape, frames_of
from curvae.sequences.temporal_difference import jumps
from curvae.systems import SequenceSystem, td_vae, vrnn
from curvae.typing import Batch
from sequences import one_step, oracle_td, oracle_vrnn, random_state_space

F, D, T = 3, 2, 6
SYSTEMS = {"td-vae": td_vae, "vrnn": vrnn}
SMALL = {"latent": 2, "hidden": 8, "gates": 8}


def later(model: StateSpace) -> StateSpace:
    """The same from the first frame on, of a model whose state starts a step before it."""
    return dataclasses.replace(model, start=model.transition @ model.start, spread=one_step(model))


def small(word: str, event: tuple[int, ...] = (T, F), **options) -> SequenceSystem:
    torch.manual_seed(0)
    return SYSTEMS[word](curvae.DataSpec(event), **{**SMALL, **options}).double()


def kalman(seed: int = 0) -> tuple[StateSpace, torch.Tensor]:
    model = random_state_space(seed, D, F)
    return model, later(model).sample(4, T, torch.Generator().manual_seed(7))


@pytest.mark.parametrize("seed", range(3))
def test_the_bracket_of_a_single_step_is_kalmans_predictive_density_for_every_draw(seed):
    """Identity of models.md, section 7: variance 0, in states of two layers with a full covariance."""
    model, x = kalman(seed)
    td, frames = oracle_td(model), frames_of(Batch.of(x), (F,))
    gap = torch.ones(4, T, dtype=torch.long)
    found = td.bracket(frames, td.belief(x), gap, 50)
    expected = later(model).filter(x).log_prob
    torch.testing.assert_close(found, expected.expand(50, -1, -1), atol=1e-10, rtol=0)
    assert found.var(0).max() < 1e-20
    torch.testing.assert_close(td.log_weights(frames, 20), later(model).log_prob(x).expand(2, -1), atol=1e-9, rtol=0)


def test_longer_gaps_fail_by_design():
    """The later belief has seen the frames between, the jump has not: no identity, and a bracket of other mean."""
    model, x = kalman()
    td, frames = oracle_td(model), frames_of(Batch.of(x), (F,))
    gap = torch.full((4, T), 2, dtype=torch.long)
    gap[:, 0] = 1
    found = td.bracket(frames, td.belief(x), gap, 200)
    assert found[:, :, 1:].var(0).min() > 1e-6


def test_a_bracket_has_all_its_constants():
    """Term by term by torch.distributions; the popular port leaves half squares out, and has 2 pi for its logarithm."""
    td = small("td-vae", latent=1, layers=1).model
    x = torch.randn(1, 1, F, dtype=torch.float64)
    frames, belief = frames_of(Batch.of(x), (F,)), td.belief(x)
    gap = torch.ones(1, 1, dtype=torch.long)
    torch.manual_seed(3)
    found = td.bracket(frames, belief, gap, 1).item()
    torch.manual_seed(3)
    eps2, eps1 = torch.randn(2, dtype=torch.float64)
    step = td._steps(gap[0], belief)

    def law(network, context):
        mean, scale = network(context).unbind(-1)
        return Normal(mean, (7 * torch.tanh(scale / 7)).exp())

    p2 = law(td.filtering.networks[0], belief[:, 1])
    z2 = p2.loc + p2.scale * eps2
    q1 = law(td.smoothing.networks[0], torch.cat([z2[:, None], belief[:, 0], belief[:, 1], step], -1))
    z1 = q1.loc + q1.scale * eps1
    p1 = law(td.filtering.networks[0], belief[:, 0])
    jump = law(td.transition.networks[0], torch.cat([z1[:, None], step], -1))
    seen = Normal(td.decoder(z2[:, None]), td.likelihood.variance.sqrt()).log_prob(x[0]).sum()
    terms = p1.log_prob(z1) + jump.log_prob(z2) - p2.log_prob(z2) - q1.log_prob(z1)
    assert found == pytest.approx((seen + terms).item(), abs=1e-12)
    port = -p2.scale.log() - q1.scale.log() + 0.5 * (2 * math.pi - math.log(2 * math.pi))
    published = (p2.log_prob(z2) + q1.log_prob(z1)).item()
    assert abs(port.item() - published) > 0.5, "the port's densities are others"


@pytest.mark.parametrize("seed", range(2))
def test_vrnn_is_kalmans_likelihood_with_exact_posteriors_and_below_it_with_others(seed):
    model = random_state_space(seed, D, F)
    x = model.sample(4, T, torch.Generator().manual_seed(7))
    frames, exact = frames_of(Batch.of(x), (F,)), model.log_prob(x)
    found = oracle_vrnn(model).log_weights(frames, 20)
    torch.testing.assert_close(found, exact.expand(20, -1), atol=1e-9, rtol=0)
    wide = oracle_vrnn(model, widened=1.5).log_weights(frames, 2000)
    loss = T * 0.5 * D * (1.5 - 1 - math.log(1.5))
    error = wide.std(0) / 2000**0.5
    assert ((exact - wide.mean(0) - loss).abs() < 5 * error).all(), "KL(q, p) of each step, in closed form"
    bounded = wide.logsumexp(0) - math.log(2000)
    relative = (wide - exact).exp().std(0) / 2000**0.5
    assert ((bounded - exact).abs() < 6 * relative).all(), "the weights are proper"


def test_a_frame_some_steps_ahead_is_kalmans():
    """By 4,000 draws of the state; failure rate below 1e-5, 5 standard errors of the mean of p."""
    model, x = kalman()
    first = later(model)
    frames = frames_of(Batch.of(x), (F,))
    states = first.filter(x[:, :3]).states
    for gap in (1, 2, 3):
        mean, covariance = first.ahead(states.mean[:, -1], states.covariance[:, -1], gap)
        exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x[:, 3 + gap - 1])
        td = oracle_td(model, jump=2)
        eta = td.ahead(frames.first(3), gap, 4000)
        each = td.likelihood.log_prob(x[:, 3 + gap - 1], eta)
        error = (each - exact).exp().std(0) / 4000**0.5
        assert ((td.predictive(frames, 3, gap, 4000) - exact).abs() < 5 * error + 0.02).all(), gap


def test_a_roll_out_of_single_steps_and_a_jump_have_one_mean():
    model, x = kalman()
    td, frames = oracle_td(model), frames_of(Batch.of(x), (F,))
    rolled = td.rolled(frames.first(2), 3, 4000)[:, :, -1]
    jumped = td.ahead(frames.first(2), 3, 4000)
    error = (rolled.var(0) / 4000 + jumped.var(0) / 4000).sqrt()
    assert ((rolled.mean(0) - jumped.mean(0)).abs() < 5 * error).all()
    averaged = oracle_td(model, jump=3)
    step = averaged.moved(torch.zeros(1, 1, D, dtype=torch.float64).expand(4000, 1, D), 1)
    far = averaged.moved(torch.zeros(1, 1, D, dtype=torch.float64).expand(4000, 1, D), 3)
    assert far.var(0).sum() > 1.2 * step.var(0).sum(), "a longer gap is a wider jump, not an average of gaps"


def test_the_gap_is_given_to_the_jump():
    td = small("td-vae").model
    z = torch.zeros(1, 2, sum(td.transition.sizes), dtype=torch.float64)
    laws = [td.transition.networks[0](torch.cat([z, td._steps(torch.full((1, 2), gap), z)], -1)) for gap in (1, 4)]
    assert not torch.allclose(*laws)
    assert jumps(5, 4) == [3, 2]


@pytest.mark.parametrize("word", SYSTEMS)
def test_nothing_sees_a_frame_before_its_time(word):
    """The gradient of what is known at step t by later frames is exactly zero."""
    system, x = small(word), torch.randn(3, T, F, dtype=torch.float64, requires_grad=True)
    for seen in (1, 3):
        frames = system.frames(x).first(seen)
        torch.manual_seed(0)
        known = system.model.states(frames, 4).sum() + system.model.filtered(system.frames(x))[:, seen - 1].sum()
        (slope,) = torch.autograd.grad(known, x)
        assert (slope[:, seen:] == 0).all()
        assert (slope[:, :seen].abs().sum((0, 2)) > 0)[-1]
    if word == "td-vae":
        belief = system.model.belief(x)
        for t in range(T + 1):
            (slope,) = torch.autograd.grad(belief[:, t].sum() + 0 * x.sum(), x, retain_graph=True)
            assert (slope[:, t:] == 0).all()


@pytest.mark.parametrize("word", SYSTEMS)
def test_frames_beyond_the_end_of_a_sequence_change_nothing(word):
    longer, shorter = small(word, (T + 3, F)), small(word)
    x = torch.randn(5, T, F, dtype=torch.float64)
    padded = torch.cat([x, torch.full((5, 3, F), 1e6, dtype=torch.float64)], 1)
    mask = torch.cat([torch.ones_like(x), torch.zeros(5, 3, F)], 1).bool()
    alone, within = shorter.frames(x), longer.frames(padded, mask)
    assert within.length.tolist() == [T] * 5
    for draw in (
        lambda system, frames: system.model.states(frames, 3),
        lambda system, frames: system.model.filtered(frames)[:, :T],
        lambda system, frames: (
            system.model._passed(frames, 3)[1] if word == "vrnn" else system.model.rolled(frames, 2, 3)
        ),
    ):
        torch.manual_seed(0)
        one = draw(shorter, alone)
        torch.manual_seed(0)
        torch.testing.assert_close(draw(longer, within), one)
    if word == "vrnn":
        torch.manual_seed(0)
        terms = shorter.model.terms(alone, 3)
        torch.manual_seed(0)
        torch.testing.assert_close(longer.model.terms(within, 3)[..., :T], terms)
        return
    gap = torch.ones(5, T + 3, dtype=torch.long)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    padded_belief, belief = longer.model.belief(within.x), shorter.model.belief(x)
    torch.testing.assert_close(padded_belief[:, : T + 1], belief)
    found = longer.model.bracket(within, padded_belief, gap, 400, generators[0])
    expected = shorter.model.bracket(alone, belief, gap[:, :T], 400, generators[1])
    assert (found[..., T:] == 0).all()
    error = (found[..., :T].var(0) / 400 + expected.var(0) / 400).sqrt()
    assert ((found[..., :T].mean(0) - expected.mean(0)).abs() < 5.5 * error).all()


@pytest.mark.parametrize("word", SYSTEMS)
def test_what_is_missing_is_not_looked_at(word):
    system, x = small(word), torch.randn(4, T, F, dtype=torch.float64)
    mask = torch.rand(4, T, F, generator=torch.Generator().manual_seed(0)) < 0.6
    values = []
    for filling in (0.0, 1e6):
        torch.manual_seed(0)
        values.append(system.bound(Batch.of(torch.where(mask, x, filling), mask)).surrogate)
    torch.testing.assert_close(*values)
    nothing = system.bound(Batch.of(x, torch.zeros_like(mask)))
    assert (nothing.surrogate == 0).all(), "of no frame at all log p is 0"
    assert system.posterior(torch.where(mask, x, torch.nan), mask).mean.isfinite().all()


@pytest.mark.parametrize("word", SYSTEMS)
def test_the_value_is_the_mean_of_the_weights_logarithm(word):
    system, x = small(word), torch.randn(2, T, F, dtype=torch.float64)
    system.samples = 1000
    value = system.bound(Batch.of(x)).value
    model, frames = system.model, system.frames(x)
    if word == "vrnn":
        log_w = model.log_weights(frames, 1000)
    else:
        log_w = model.bracket(frames, model.belief(x), torch.ones(2, T, dtype=torch.long), 1000).sum(-1)
    assert ((value - log_w.mean(0)).abs() < 5 * (2 / 1000) ** 0.5 * log_w.std(0)).all()


def test_draws_that_go_together_are_proper_weights_of_less_spread():
    """Against Kalman's density, of an oracle with a smoother that is too wide; 6 standard errors of the mean weight."""
    model, x = kalman()
    td, frames, exact = oracle_td(model, widened=2.0), frames_of(Batch.of(x), (F,)), later(model).log_prob(x)
    together = td.log_weights(frames, 6400) - exact
    single = td.bracket(frames, td.belief(x), torch.ones(4, T, dtype=torch.long), 400).sum(-1) - exact
    assert together.shape == (400, 4)
    assert ((together.exp().mean(0) - 1).abs() < 6 * together.exp().std(0) / 20).all()
    assert (together.var(0) < 0.3 * single.var(0)).all()
    assert (single.mean(0) < 0).all()


def test_samples_are_of_the_density_that_is_evaluated():
    """Mean and covariance of all frames, of 20,000 draws of the oracle; 5.5 standard errors, some 40 numbers."""
    model, _ = kalman()
    drawn = oracle_td(model).sample(4000, 3, torch.Generator().manual_seed(0)).flatten(1)
    true = later(model).sample(200_000, 3, torch.Generator().manual_seed(1)).flatten(1)
    error = (drawn.var(0) / 4000).sqrt()
    assert ((drawn.mean(0) - true.mean(0)).abs() < 5.5 * error).all()
    spread = ((drawn.T.cov() - true.T.cov()) / (true.var(0)[:, None] * true.var(0)).sqrt()).abs()
    assert spread.max() < 5.5 * 2 / 4000**0.5


def test_a_law_in_layers_is_normalized_and_conditions_on_the_layers_above_of_the_same_state():
    torch.manual_seed(0)
    law = LayeredNormal.standard(2, [1, 1], 8).double()
    context = torch.randn(2, dtype=torch.float64)
    grid = torch.linspace(-9, 9, 361, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    total = law.log_prob(z, context.expand(len(z), -1)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-6)
    near, far = (law.log_prob(torch.tensor([top, 0.5]).double(), context) for top in (0.0, 3.0))
    alone = Normal(law.center(context)[0], law.networks[0](context)[1].exp())
    assert (near - far).item() != pytest.approx(
        (alone.log_prob(torch.tensor(0.0)) - alone.log_prob(torch.tensor(3.0))).item()
    )


def test_shapes_of_frames_and_what_is_none():
    assert frame_shape((20, 8, 8)) == (8, 8)
    for event in ((1, 8, 8), (3, 32, 32), (1,), (1, 4)):
        with pytest.raises(
            ValueError, match=r"sequences: expected examples of shape \(T, \.\.\.\), of 2 frames or more"
        ):
            td_vae(curvae.DataSpec(event))
    with pytest.raises(ValueError, match="vrnn expects frames of values of one kind"):
        vrnn(curvae.DataSpec((4,), "mixed", kinds=("real", "count", "real", "real")))
    system = small("vrnn")
    with pytest.raises(ValueError, match=r"x must be a batch of data of shape \(6, 3\); got \(2, 5, 3\)"):
        system.posterior(torch.zeros(2, 5, 3).double())
    with pytest.raises(ValueError, match="x holds NaN or infinity; pass mask"):
        system.reconstruct(torch.full((2, T, F), torch.nan).double())
    with pytest.raises(ValueError, match="refine: expected a posterior with parameters; got draws of a state"):
        system.posterior(torch.zeros(2, T, F).double(), refine=3)
    with pytest.raises(ValueError, match="seen must be from 1 to 5; got 6"):
        system.roll_out(torch.zeros(2, T, F).double(), T)
    with pytest.raises(ValueError, match="latent must be 1 or more; got 0"):
        td_vae(curvae.DataSpec((T, F)), layers=0)
