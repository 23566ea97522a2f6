"""Amortized Langevin dynamics: exact posteriors where the features have full rank, and only there."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from chance import beyond, chi_square, deviates, p_value, within
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


@pytest.mark.statistical
@torch.no_grad()
@pytest.mark.parametrize("features", [256, 16])
def test_chains_leave_invariant_what_the_features_can_reach(features):
    """64 examples, 2 latents: W moves z in the span of the features, by an orthonormal basis of it an exact posterior.

    That is the whole where M = 256, so z stays a draw of the posteriors, and 16 of 64 directions where M = 16. Begun at
    an exact draw, the last state is one too: whitened, a chi-square and Kolmogorov and Smirnov; 2e-6 of the seeds fail.
    """
    oracle = LinearGaussian(size=2, outputs=3, scale=1.0, count=64)
    inference = langevin(64, features, step=64 * 0.03)
    seen = inference.features(oracle.x)
    begin = exact_draw(oracle)
    inference.weight = (torch.linalg.pinv(seen) @ begin).mT
    found = inference.chains(oracle.model, oracle.batch, 120, 0)
    basis = torch.linalg.svd(seen, full_matrices=False).U
    last = basis.mT @ oracle.whitened(found.posterior.states[:, 0, -1])
    assert len(basis.mT) == min(features, 64)
    beyond("acceptance", found.info["acceptance"], 0.3)
    moved = last - basis.mT @ oracle.whitened(begin)
    beyond("log10 distance, mean square", moved.square().mean().log10(), math.log10(0.2))
    chi_square("squares", last)
    p_value("law", stats.kstest(last.flatten(), "norm").pvalue)


def exact_draw(oracle: LinearGaussian) -> torch.Tensor:
    factor = torch.linalg.cholesky(torch.linalg.inv(oracle.precision()))
    return oracle.mean() + torch.randn_like(oracle.mean()) @ factor.mT


@pytest.mark.statistical
@pytest.mark.parametrize("metropolis", [False, True])
def test_without_metropolis_the_variance_is_biased_as_known(metropolis):
    """One latent, precision P, h P = 0.4: ``1 / (P (1 - h P / 2))``, a quarter too wide. 16 examples, a feature each.

    Plain, z is an autoregressive process of coefficient 0.6, whose mean square over T steps has a known error: one
    normal deviate, 6e-7 of the seeds fail. What Metropolis refuses makes it longer: a limit by the tail over 200 seeds.
    """
    oracle, steps = LinearGaussian(size=1, outputs=3, scale=1.0, count=16), 300
    precision = oracle.precision().item()
    inference = langevin(16, 16, size=1, step=16 * 0.4 / precision, metropolis=metropolis)
    inference.features.values.data = torch.eye(16, dtype=torch.float64)
    found = inference.chains(oracle.model, oracle.batch, steps, 30)
    ratio = precision * (found.posterior.states[:, 0] - oracle.mean().unsqueeze(1)).square().mean()
    error = (2 * (1 + 0.6**2) / (1 - 0.6**2) / (16 * steps)) ** 0.5
    if metropolis:
        within("variance over the exact one, less 1", abs(ratio - 1), 0.22)
    else:
        deviates("variance", (ratio / 1.25 - 1) / error)


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
