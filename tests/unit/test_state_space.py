"""The linear-Gaussian state-space model against one Gaussian of all frames, and EM."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from curvae.linear import StateSpace, fit_state_space
from curvae.linear.state_space_fit import maximized, started
from sequences import random_state_space

T, F, D = 5, 3, 2


def joint(model: StateSpace, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and covariance of all states, and of all frames, by brute force."""
    size = len(model.start)
    powers = [torch.linalg.matrix_power(model.transition, k) for k in range(steps)]
    variances = [model.spread]
    for _ in range(steps - 1):
        variances.append(model.transition @ variances[-1] @ model.transition.mT + model.process)
    states = torch.zeros(steps * size, steps * size, dtype=torch.float64)
    for s in range(steps):
        for t in range(s, steps):
            block = powers[t - s] @ variances[s]
            states[t * size : (t + 1) * size, s * size : (s + 1) * size] = block
            states[s * size : (s + 1) * size, t * size : (t + 1) * size] = block.mT
    mean = torch.cat([power @ model.start for power in powers])
    weight = torch.block_diag(*[model.emission] * steps)
    frames = weight @ states @ weight.mT + torch.diag(model.noise.repeat(steps))
    return mean, states, weight @ mean + model.offset.repeat(steps), frames


def test_filter_and_smoother_are_those_of_the_joint_gaussian():
    model = random_state_space(0, D, F)
    x = model.sample(4, T, torch.Generator().manual_seed(1))
    mask = torch.rand(4, T, F, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[0] = True
    mask[1, 3:] = False
    mean, states, center, covariance = joint(model, T)
    loading = torch.block_diag(*[model.emission] * T)
    found = model.filter(torch.where(mask, x, torch.nan), mask)
    smoothed = model.smooth(found)
    for row in range(4):
        seen = mask[row].flatten()
        law = MultivariateNormal(center[seen], covariance[seen][:, seen])
        torch.testing.assert_close(found.log_prob[row].sum(), law.log_prob(x[row].flatten()[seen]))
        gain = torch.linalg.solve(covariance[seen][:, seen], loading[seen] @ states).mT
        expected = mean + gain @ (x[row].flatten()[seen] - center[seen])
        left = states - gain @ loading[seen] @ states
        torch.testing.assert_close(smoothed.states.mean[row].flatten(), expected)
        for t in range(T):
            block = left[t * D : (t + 1) * D, t * D : (t + 1) * D]
            torch.testing.assert_close(smoothed.states.covariance[row, t], block)
        for t in range(T - 1):
            block = left[(t + 1) * D : (t + 2) * D, t * D : (t + 1) * D]
            torch.testing.assert_close(smoothed.between[row, t], block)
    torch.testing.assert_close(found.states.mean[:, -1], smoothed.states.mean[:, -1])


def test_a_frame_ahead_is_that_of_the_joint_gaussian():
    model = random_state_space(3, D, F)
    x = model.sample(1, T, torch.Generator().manual_seed(1))
    _, _, center, covariance = joint(model, T)
    past, frame = slice(0, 2 * F), slice(4 * F, 5 * F)
    gain = torch.linalg.solve(covariance[past, past], covariance[past, frame]).mT
    expected = center[frame] + gain @ (x.flatten()[past] - center[past])
    states = model.filter(x[:, :2]).states
    mean, spread = model.ahead(states.mean[:, -1], states.covariance[:, -1], 3)
    torch.testing.assert_close(mean[0], expected)
    torch.testing.assert_close(spread[0], covariance[frame, frame] - gain @ covariance[past, frame])


def test_frames_that_are_not_there_change_nothing():
    model = random_state_space(1, D, F)
    x = model.sample(6, T)
    mask = torch.ones_like(x, dtype=torch.bool)
    padded = torch.cat([x, torch.full((6, 4, F), 1e9, dtype=x.dtype)], 1)
    torch.testing.assert_close(model.log_prob(x, mask), model.log_prob(x))
    longer = torch.cat([mask, torch.zeros(6, 4, F, dtype=torch.bool)], 1)
    torch.testing.assert_close(model.log_prob(padded, longer), model.log_prob(x))


@pytest.mark.parametrize("shared", [False, True])
def test_every_round_of_em_gains(shared: bool):
    true = random_state_space(0, D, F)
    x = true.sample(60, 8, torch.Generator().manual_seed(1))
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.8
    x = torch.where(seen, x, 0)
    model, values = started(x, seen, D, 1e-6), []
    for _ in range(25):
        filtered = model.filter(x, seen)
        values.append(float(filtered.log_prob.sum()))
        model = maximized(model, filtered, x, seen, shared)
    gains = torch.tensor(values).diff()
    assert (gains > -1e-2).all(), gains.min()  # the jitter of the covariances is the rest
    assert values[-1] - values[0] > 10
    if not shared:
        assert values[-1] > float(true.log_prob(x, seen).sum()) - 25


def test_em_finds_a_model_that_predicts_as_well_as_the_truth():
    """Held out, within 0.1 nats a sequence, where one sequence's spread is some 3: 400 training sequences."""
    true = random_state_space(2, D, F)
    x, held = (true.sample(400, 10, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    fitted = fit_state_space(x, D, rounds=60)
    lost = (true.log_prob(held) - fitted.log_prob(held)).mean()
    assert -0.1 < lost < 0.2
    wider = fit_state_space(x, F + 1, rounds=5)
    assert wider.emission.shape == (F, F + 1)
    assert wider.log_prob(held).isfinite().all()


def test_whole_sequences_share_their_covariances():
    model = random_state_space(2, D, F)
    x = model.sample(5, T)
    mask = torch.ones_like(x, dtype=torch.bool)
    for one, other in zip(model.smooth(model.filter(x)), model.smooth(model.filter(x, mask)), strict=True):
        for short, long in zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]:
            torch.testing.assert_close(short.expand_as(long), long)
    one, other = (maximized(model, model.filter(x, seen), x, seen) for seen in (None, mask))
    for name in ("start", "spread", "transition", "process", "emission", "offset", "noise"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_a_single_number_a_step():
    x = torch.randn(30, 6, 1, dtype=torch.float64).cumsum(1)
    fitted = fit_state_space(x, 1, rounds=30)
    alone = torch.distributions.Normal(x.mean(), x.std()).log_prob(x).sum((1, 2)).mean()
    assert fitted.log_prob(x).mean() > alone
    assert math.isfinite(float(fitted.noise))


def test_what_it_cannot_fit_it_says():
    with pytest.raises(ValueError, match="expected 2 frames and 1 latent or more; got 1 and 2"):
        fit_state_space(torch.zeros(3, 1, 2), 2)
