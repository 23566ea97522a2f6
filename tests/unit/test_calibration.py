"""Calibration: passes for exact posteriors, fails for those that are not."""

import json

import pytest
import torch
from torch import nn

from curvae.evaluation import Widened, calibrate
from curvae.inference import AmortizedGaussian, AmortizedMixture, Inferred, Laplace
from curvae.inference.inference import Inference
from curvae.objectives import elbo
from curvae.posteriors import PrecisionGaussian
from curvae.systems import LatentSystem
from zoo import D, LinearGaussian

COUNT, DRAWS = 1000, 99


class Zero(Inference):
    """Starts at 0 for every datum."""

    def forward(self, model, batch) -> Inferred:
        eye = torch.eye(D, dtype=batch.x.dtype).expand(len(batch.x), -1, -1)
        return Inferred(PrecisionGaussian(batch.x.new_zeros(len(batch.x), D), eye))


def system_of(inference: Inference) -> LatentSystem:
    return LatentSystem(LinearGaussian().model, inference, elbo)


def exact() -> Laplace:
    return Laplace(Zero(), steps=1)


def test_an_exact_posterior_is_calibrated():
    """Fails for 1 in 1,000 seeds; the seed is fixed."""
    torch.manual_seed(0)
    found = calibrate(system_of(exact()), COUNT, DRAWS)
    assert found.p_value > 1e-3
    for level, share in found.coverage.items():
        assert abs(share.value - level) < 4 * share.stderr
    assert found.ranks.shape == (COUNT, D + 2)


@pytest.mark.parametrize("width", [1.3, 1 / 1.3])
def test_a_covariance_off_by_three_tenths_is_not(width):
    """Both ways, and the coverage says which."""
    torch.manual_seed(0)
    found = calibrate(system_of(Widened(exact(), width)), COUNT, DRAWS)
    assert found.p_value < 1e-6
    share = found.coverage[0.8]
    assert (share.value - 0.8) / share.stderr > 3 if width > 1 else (share.value - 0.8) / share.stderr < -3


class Shifted(Inference):
    """An exact posterior whose mean is off."""

    def forward(self, model, batch) -> Inferred:
        found = exact()(model, batch).posterior
        return Inferred(PrecisionGaussian(found.mean + 0.5 * found.variance.sqrt(), found.factor))


def test_a_shifted_mean_piles_up_at_one_end():
    torch.manual_seed(0)
    found = calibrate(system_of(Shifted()), COUNT, DRAWS)
    assert min(found.p_values[:-1]) < 1e-6
    assert found.ranks[:, 0].mean() < 40


class Uncorrelated(Inference):
    """The exact marginals, without their correlation."""

    def forward(self, model, batch) -> Inferred:
        found = exact()(model, batch).posterior
        return Inferred(PrecisionGaussian(found.mean, torch.diag_embed(found.variance.rsqrt())))


def test_log_joint_sees_what_no_single_latent_does():
    """Marginals are exact here, so latents pass, and the joint does not."""
    torch.manual_seed(3)
    model = LinearGaussian(scale=0.3)
    with torch.no_grad():
        weight = model.model.decoder.get_parameter("weight")
        weight[:, 1] = weight[:, 0] + 0.1
    found = calibrate(LatentSystem(model.model, Uncorrelated(), elbo), COUNT, DRAWS)
    assert min(found.p_values[:-2]) > 1e-4
    assert found.p_values[-1] < 1e-6


def test_draws_of_unequal_weight_are_drawn_again():
    torch.manual_seed(0)
    parts = [AmortizedGaussian(nn.Linear(10, 2 * D)) for _ in range(2)]
    mixture = AmortizedMixture(parts, nn.Linear(10, 2)).double()
    found = calibrate(system_of(mixture), 200, 19)
    assert found.ranks.min() >= 0
    assert found.ranks.max() <= 19


def test_same_seed_same_ranks_and_the_system_stays_as_it_is():
    torch.manual_seed(0)
    system = system_of(exact()).train()
    one, two, other = (calibrate(system, 200, 19, seed=seed) for seed in (0, 0, 1))
    assert (one.ranks == two.ranks).all()
    assert (one.ranks != other.ranks).any()
    assert system.training


def test_plain_values_and_a_picture(tmp_path):
    torch.manual_seed(0)
    found = calibrate(system_of(exact()), 200, 19)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert sum(values["ranks"]["z1"]) == values["count"] == 200
    assert found.figure(tmp_path / "calibration.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be 1 or more; got 0"),
        ({"draws": 0}, "draws must be 1 or more; got 0"),
        ({"levels": (0.5, 1.0)}, "levels are probabilities"),
    ],
)
def test_misuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate(system_of(exact()), **arguments)
