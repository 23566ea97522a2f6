"""Weights that are judged and kept in place of those that training goes on from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from curvae import training
from curvae.inference import AmortizedGaussian, Laplace, m_step
from curvae.likelihoods import Bernoulli, Gaussian, HasNoise
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from curvae.systems import Stage
from curvae.training.loop import checkpoint
from curvae.typing import Batch
from training_toys import Toy, data_of, interrupt

EPOCHS = {"epochs": 4, "batch_size": 10, "learning_rate": 0.1, "progress": False, "device": "cpu"}
"""Five steps an epoch."""


class Single(Toy):
    """One stage."""

    def stages(self) -> tuple[Stage, ...]:
        return (super().stages()[0],)


class Finished(Single):
    """Sets its scale to 2, the best there is, where it is judged."""

    def stages(self) -> tuple[Stage, ...]:
        return (replace(super().stages()[0], finish=(Finished.fill,)),)

    def fill(self, data) -> None:
        assert (len(data.train), len(data.validation)) == (50, 20)
        self.scale.data.fill_(2.0)


def trained(folder: Path, system: Toy | None = None, **options):
    torch.manual_seed(0)
    return training.fit(system or Toy(noise=0.3), data_of(), out=folder, **EPOCHS, **options)


def test_the_mean_of_the_last_steps_is_kept_and_training_does_not_notice(tmp_path: Path, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def recorded(self, *args, **kwargs):
        found = step(self, *args, **kwargs)
        seen.append(self.param_groups[0]["params"][0].detach().clone())
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    plain = trained(tmp_path / "plain", Single(noise=0.3)).metrics()
    system = Single(noise=0.3)
    averaged = trained(tmp_path / "averaged", system, average=0.6).metrics()
    assert plain["train_bound"] == averaged["train_bound"]
    assert plain["validation_bound"] != averaged["validation_bound"]
    best = max(range(4), key=lambda epoch: averaged["validation_bound"][epoch])
    last = seen[20 + 5 * best + 2 : 20 + 5 * best + 5]
    torch.testing.assert_close(system.center.detach(), torch.stack(last).mean(0))


def test_all_of_an_epoch_and_its_last_step_alone(tmp_path: Path):
    plain, last = trained(tmp_path / "plain"), trained(tmp_path / "last", average=0.01)
    assert plain.metrics()["validation_bound"] == pytest.approx(last.metrics()["validation_bound"])
    assert trained(tmp_path / "all", average=1.0).metrics()["validation_bound"] != plain.metrics()["validation_bound"]


def test_what_a_stage_finishes_is_judged_and_kept_and_training_does_not_notice(tmp_path: Path):
    system = Finished(noise=0.3)
    plain, finished = trained(tmp_path / "plain", Single(noise=0.3)), trained(tmp_path / "finished", system)
    assert plain.metrics()["train_bound"] == finished.metrics()["train_bound"]
    for one, other in zip(plain.metrics()["validation_bound"], finished.metrics()["validation_bound"], strict=True):
        assert other > one
    assert system.scale.item() == 2.0


@pytest.mark.parametrize("call", [8, 12])
def test_a_run_that_was_cut_off_ends_the_same(tmp_path: Path, call: int, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 1e9)
    whole = trained(tmp_path / "whole", average=0.5)
    system = Toy(noise=0.3)
    system.at = {call: interrupt}
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", system, average=0.5)
    again = trained(tmp_path / "cut", average=0.5)
    assert whole.metrics()["validation_bound"] == again.metrics()["validation_bound"]
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "cut" / "model.safetensors"
    ).read_bytes()


def test_misuse(tmp_path: Path):
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match="average: expected a share of an epoch's steps"):
            trained(tmp_path / "run", average=wrong)


@pytest.mark.parametrize("learn", ["shared", "element"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_gaussian_maximizes_what_it_says(learn, missing):
    likelihood = Gaussian(6, learn=learn).double()
    x, eta = torch.randn(30, 6, dtype=torch.float64), torch.randn(3, 30, 6, dtype=torch.float64)
    mask = torch.rand(30, 6) > 0.3 if missing else None
    likelihood.maximize(x, eta, mask)
    likelihood.log_prob(x, eta, mask).mean().backward()
    assert likelihood.log_variance.grad is not None
    assert likelihood.log_variance.grad.abs().max() < 1e-5


def test_what_has_no_noise_of_its_own_stays():
    likelihood = Gaussian(6, scale=0.3)
    before = {name: value.clone() for name, value in likelihood.state_dict().items()}
    likelihood.maximize(torch.ones(4, 6), torch.zeros(2, 4, 6))
    assert all(torch.equal(value, before[name]) for name, value in likelihood.state_dict().items())
    assert not isinstance(Bernoulli(6), HasNoise)
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, 6), Bernoulli(6))
    m_step(model, AmortizedGaussian(nn.Linear(6, 4)), Batch.of(torch.ones(4, 6)))


def test_refit_finds_the_noise_of_a_linear_model():
    torch.manual_seed(0)
    decoder = nn.Linear(2, 40)
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(40, learn="shared"))
    x = decoder(torch.randn(2000, 2)).detach() + 0.2 * torch.randn(2000, 40)
    for _ in range(20):
        m_step(model, Laplace(AmortizedGaussian(nn.Linear(40, 4)), steps=1), Batch.of(x))
    assert model.likelihood.variance.sqrt().item() == pytest.approx(0.2, rel=0.01)
