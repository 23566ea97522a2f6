"""Amortized Langevin dynamics: exact posteriors where the features have full rank, and only there."""

import pytest
import torch
from torch import nn

from curvae.inference import AmortizedLangevin
from curvae.objectives import PointJoint, monte_carlo_elbo
from curvae.posteriors import DiagonalGaussian
from curvae.training.loop.state import write_state
from methods import SPEC, systems
from zoo import D, LinearGaussian, smooth_model


class Given(nn.Module):
    """Features that do not look at the datum."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, x):
        return self.values[: len(x)]


def langevin(count, features, size=2, scale=0.05, **options):
    """Random features of unit length."""
    values = nn.functional.normalize(torch.randn(count, features, dtype=torch.float64), dim=-1)
    return AmortizedLangevin(Given(values), size, features, scale=scale, **options).double()


def run(count, features, samples=2500):
    oracle = LinearGaussian(size=2, outputs=3, scale=1.0, count=count)
    found = langevin(count, features, step=0.15 * count).chains(oracle.model, oracle.batch, samples, 300)
    exact = torch.linalg.inv(oracle.precision())
    states = found.posterior.states[:, 0]
    offset = (states.mean(1) - oracle.mean()) / exact.diagonal().sqrt()
    spread = states.var(1) / exact.diagonal()
    return found, states, offset, spread, exact


@pytest.mark.statistical
def test_full_rank_features_give_the_exact_posteriors():
    """n = 3 data, M = 16 features; failure rate below 1e-4 (5 standard errors at the effective sample size)."""
    found, states, offset, spread, exact = run(3, 16)
    ess = found.posterior.ess
    assert (ess > 100).all()
    assert (offset.abs() < 5 / ess.sqrt()).all()
    assert ((spread - 1).abs() < 5 * (2 / ess).sqrt()).all()
    torch.testing.assert_close(found.posterior.covariance[0], exact, atol=0.2, rtol=0)
    both = torch.corrcoef(states.permute(0, 2, 1).flatten(0, 1))
    assert both[:2, 2:].abs().max() < 5 / ess.min().sqrt(), "posteriors of different data are independent"
    assert 0.4 < found.info["acceptance"] < 0.95


@pytest.mark.statistical
def test_fewer_features_than_data_do_not():
    """n = 8 data, M = 4 features: z cannot move freely."""
    _, _, offset, spread, _ = run(8, 4, 1200)
    assert offset.abs().max() > 0.5
    assert (spread - 1).abs().max() > 0.4


@pytest.mark.statistical
@pytest.mark.parametrize("metropolis", [False, True])
def test_without_metropolis_the_variance_is_biased_as_known(metropolis):
    """One latent, precision P, h P = 0.4: ``1 / (P (1 - h P / 2))``, a quarter too wide. 16 data with a feature each.

    Failure rate below 1e-4.
    """
    oracle = LinearGaussian(size=1, outputs=3, scale=1.0, count=16)
    precision = oracle.precision().item()
    inference = langevin(16, 16, size=1, step=16 * 0.4 / precision, metropolis=metropolis)
    inference.features.values.data = torch.eye(16, dtype=torch.float64)
    found = inference.chains(oracle.model, oracle.batch, 1000, 50)
    ratio = precision * (found.posterior.states[:, 0] - oracle.mean().unsqueeze(1)).square().mean()
    assert abs(ratio - (1 if metropolis else 1.25)) < 0.1


def test_one_transition_is_the_published_step():
    """``W - (h / B) grad V + sqrt(2 h / B) noise``, V a sum over data."""
    model, batch = smooth_model()
    inference = langevin(8, 16, size=D, steps=1, step=0.2, metropolis=False)
    weight = inference.weight.clone().requires_grad_(True)
    z = inference.features(batch.x).detach() @ weight.mT
    (slope,) = torch.autograd.grad(model.log_joint(batch.x, z.unsqueeze(0)).sum(), weight)
    torch.manual_seed(3)
    found = inference(model, batch)
    torch.manual_seed(3)
    noise = torch.randn(1, 1, D * 16, dtype=torch.float64).reshape(D, 16)
    expected = inference.weight + 0.2 / 8 * slope + (0.4 / 8) ** 0.5 * noise
    torch.testing.assert_close(found.state["weight"], expected)
    torch.testing.assert_close(found.posterior.mean, inference.features(batch.x) @ expected.mT)
    assert 0 < found.info["acceptance"] < 1


def test_features_learn_and_the_last_layer_moves():
    model, batch = smooth_model()
    inference = langevin(8, 16, size=D, step=0.05)
    before = inference.weight.clone()
    found = inference(model, batch)
    PointJoint()(model, found.posterior, batch, 2).surrogate.sum().backward()
    assert (inference.features.values.grad != 0).all()
    assert torch.equal(inference.weight, before), "forward is pure: the trainer writes the state"
    write_state(inference, found.state, batch.index, 100)
    assert not torch.equal(inference.weight, before)
    resting = inference.eval()(model, batch)
    assert not resting.state
    torch.testing.assert_close(resting.posterior.mean, found.posterior.mean)
    torch.testing.assert_close(resting.posterior.variance, torch.full((8, D), 0.05**2, dtype=torch.float64))


def test_point_joint_reports_the_elbo_and_climbs_the_center():
    oracle = LinearGaussian()
    q = DiagonalGaussian(oracle.mean() + 0.1, torch.full_like(oracle.mean(), -2.0))
    torch.manual_seed(0)
    found = PointJoint()(oracle.model, q, oracle.batch, 5)
    torch.manual_seed(0)
    torch.testing.assert_close(found.value, monte_carlo_elbo(oracle.model, q, oracle.batch, 5).value)
    torch.testing.assert_close(found.surrogate, oracle.model.log_joint(oracle.x, q.loc.unsqueeze(0))[0])
    assert not found.value.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more; got 0"),
        ({"step": 0.0}, "step and scale must be positive; got 0.0 and 0.05"),
        ({"scale": -1.0}, "step and scale must be positive; got 0.0001 and -1.0"),
    ],
)
def test_misuse(options, message):
    with pytest.raises(ValueError, match=message):
        AmortizedLangevin(nn.Linear(3, 4), 2, 4, **options)


def test_misuse_in_use():
    model, batch = smooth_model()
    with pytest.raises(ValueError, match="features must give 16 values; got 5"):
        AmortizedLangevin(nn.Linear(10, 5).double(), D, 16)(model, batch)
    with pytest.raises(ValueError, match="expects samples >= 4 and warmup >= 0; got 3 and 1000"):
        langevin(8, 16, size=D).chains(model, batch, 3)
    with pytest.raises(ValueError, match="count must be 1 or more; got -1"):
        systems.langevin_ae(SPEC, features=-1, encoder=nn.Linear(10, 4))
