"""What a stage can say beside what is trained: schedule, clipping, weights that are kept, no epoch at all."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import curvae
from curvae import training
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.priors import StandardNormal
from curvae.systems import BoundBy, Cosine, LatentSystem, Optimizer, Remember, Stage, vlae
from curvae.systems.stages import warmed_up
from training_toys import Toy, content, data_of, interrupt

OPTIONS = {
    "epochs": 4,
    "batch_size": 10,
    "learning_rate": 0.1,
    "schedule": "constant",
    "clip": None,
    "device": "cpu",
    "progress": False,
}
"""Five steps an epoch."""


class Staged(Toy):
    """A toy whose single stage is told."""

    def __init__(self, *stages: Stage, noise: float = 0.0):
        super().__init__(noise)
        self.remember(50)
        self.told = stages or (Stage("one"),)

    def stages(self) -> tuple[Stage, ...]:
        return self.told

    def fill(self, data) -> None:
        self.prepared.append("filled")
        self.scale.data.fill_(2.0)

    def empty(self, data) -> None:
        self.prepared.append("emptied")
        self.scale.data.fill_(-5.0)


def fitted(folder: Path, system: Toy, **options):
    torch.manual_seed(0)
    return training.fit(system, data_of(), out=folder, **{**OPTIONS, **options})


@pytest.fixture
def rates(monkeypatch):
    """Learning rates and norms of the gradient, as the optimizer meets them."""
    seen = []
    step = torch.optim.SGD.step

    def recorded(self, *args, **kwargs):
        group = self.param_groups[0]
        norm = torch.nn.utils.get_total_norm([each.grad for each in group["params"]])
        seen.append((group["lr"], norm.item()))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", recorded)
    return seen


SGD = Optimizer(torch.optim.SGD, {"lr": 0.5})


def test_a_schedule_goes_over_the_steps_of_its_stage(tmp_path: Path, rates: list):
    schedule = Cosine(warmup=0.1)
    fitted(tmp_path / "run", Staged(Stage("one", optimizer=SGD, schedule=schedule, repeat=2)))
    assert [rate for rate, _ in rates] == pytest.approx([0.5 * schedule(step / 40) for step in range(40)])
    assert max(rate for rate, _ in rates) == 0.5
    assert rates[-1][0] < 0.01


def test_the_runs_schedule_serves_stages_without_one(tmp_path: Path, rates: list):
    fitted(tmp_path / "run", Staged(Stage("one", optimizer=SGD), Stage("two", optimizer=SGD)), schedule="cosine")
    one = [0.5 * Cosine()(step / 10) for step in range(10)]
    assert [rate for rate, _ in rates] == pytest.approx(one + one)


def test_a_run_that_is_taken_up_again_goes_on_where_the_schedule_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curvae.training.loop.checkpoint.SAVE_EVERY", 0.0)
    monkeypatch.setattr("curvae.training.loop.checkpoint.SAVE_SHARE", 1e9)
    stage = Stage("one", schedule=Cosine(), keep="snapshots")
    fitted(tmp_path / "whole", Staged(stage, noise=0.3))
    cut = Staged(stage, noise=0.3)
    cut.at = {13: interrupt}
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", cut)
    fitted(tmp_path / "cut", Staged(stage, noise=0.3))
    whole, cut = (content(tmp_path / name) for name in ("whole", "cut"))
    weights = [name for name in whole if name.endswith("model.safetensors") or "snapshots" in name]
    assert len(weights) == 5
    assert all(whole[name] == cut[name] for name in weights)


def test_gradients_are_clipped_where_the_stage_or_the_run_says_so(tmp_path: Path, rates: list):
    fitted(tmp_path / "stage", Staged(Stage("one", optimizer=SGD, clip=0.3)), clip=7.0, epochs=1)
    fitted(tmp_path / "run", Staged(Stage("one", optimizer=SGD)), clip=0.2, epochs=1)
    fitted(tmp_path / "none", Staged(Stage("one", optimizer=SGD)), epochs=1)
    norms = [norm for _, norm in rates]
    assert norms[0] == pytest.approx(0.3, rel=1e-4)
    assert norms[5] == pytest.approx(0.2, rel=1e-4)
    assert norms[10] > 1
    assert max(norms[:5]) < 0.3 + 1e-4
    metrics = fitted(tmp_path / "told", Staged(Stage("one", clip=0.3)), epochs=1).metrics()
    assert metrics["grad_norm"][0] > 1, "what is logged is the gradient as it was"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_are_kept(tmp_path: Path, keep: str):
    """A rate far too high makes every epoch worse than the one before, and the first one worse than the start."""
    stage = Stage("one", ("scale",), keep=keep, optimizer=Optimizer(torch.optim.SGD, {"lr": 1.05}))
    system = Staged(stage)
    bounds = fitted(tmp_path / "run", system).metrics()["validation_bound"]
    assert bounds == sorted(bounds, reverse=True)
    rows = data_of().validation.batch(torch.arange(20))
    expected = Staged(stage).bound(rows).value.mean().item() if keep == "best" else bounds[-1]
    assert system.bound(rows).value.mean().item() == pytest.approx(expected)


def test_snapshots_are_the_weights_of_every_epoch(tmp_path: Path):
    system = Staged(Stage("one", keep="snapshots"), noise=0.3)
    bounds = fitted(tmp_path / "run", system).metrics()["validation_bound"]
    files = sorted((tmp_path / "run" / "snapshots").iterdir())
    assert len(files) == 4
    quiet, batch = Staged(), data_of().validation.batch(torch.arange(20))
    for file, bound in zip(files, bounds, strict=True):
        quiet.load_state_dict(safetensors.torch.load_file(file), strict=False)
        assert quiet.bound(batch).value.mean().item() == pytest.approx(bound, abs=1.0)
    assert torch.equal(safetensors.torch.load_file(files[-1])["center"], system.center)


def test_a_stage_without_an_epoch_prepares_and_finishes(tmp_path: Path):
    still = Stage("still", prepare=(Staged.empty,), finish=(Staged.fill,), share=0)
    system = Staged(Stage("one", ("center",)), still)
    run = fitted(tmp_path / "run", system)
    assert run.state == "finished"
    assert system.prepared == ["emptied", "filled"]
    assert system.scale.item() == 2.0
    assert len(run.metrics()["epoch"]) == 4
    assert safetensors.torch.load_file(run.path / "model.safetensors")["scale"].item() == 2.0


def test_a_run_of_nothing_else(tmp_path: Path):
    system = Staged(Stage("still", prepare=(Staged.fill,), share=0))
    run = fitted(tmp_path / "run", system)
    assert run.state == "finished"
    assert safetensors.torch.load_file(run.path / "model.safetensors")["scale"].item() == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": -1.0}, "Stage.share: expected 0 or more, got -1"),
        ({"repeat": 0}, "Stage.repeat: expected 1 or more, got 0"),
        ({"clip": 0.0}, "Stage.clip: expected a positive norm"),
    ],
)
def test_stages_that_make_no_sense(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Stage("one", **options)


def test_runs_that_make_no_sense(tmp_path: Path):
    for options, message in (({"clip": -1.0}, "clip: expected"), ({"schedule": "linear"}, "schedule: expected one of")):
        with pytest.raises(ValueError, match=message):
            fitted(tmp_path / "run", Staged(), **options)
    with pytest.raises(ValueError, match=r"expected warmup in \[0, 1\)"):
        Cosine(warmup=1.0)


def small(inference=None) -> LatentSystem:
    model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3, learn="shared"))
    return LatentSystem(model, inference or AmortizedGaussian(torch.nn.Linear(3, 4)), elbo)


def test_a_module_that_cannot_remember_is_named():
    with pytest.raises(ValueError, match="a module that remembers at 'inference'; got AmortizedGaussian"):
        Remember()(small(), data_of())


def test_state_of_a_stage_is_that_of_the_module_it_names():
    """A start that keeps something, under the name that it has in the whole system."""
    system = small(Laplace(Laplace(AmortizedGaussian(torch.nn.Linear(3, 4)), 1), 1))
    system.inference.start.remember(50, system.model.prior)
    batch = data_of().train.batch(torch.arange(5))
    assert set(system.bound(batch).state) == {"inference.start.modes"}
    assert set(BoundBy("inference.start")(system, batch).state) == {"inference.start.modes"}


def test_systems_put_together_by_hand_start_from_the_data_too(tmp_path: Path):
    data = curvae.data.from_array(50 * torch.randn(100, 3), standardize=False)
    system = small()
    training.fit(system, data, **{**OPTIONS, "epochs": 1, "learning_rate": 1e-6}, out=tmp_path / "run")
    assert 40 < system.model.likelihood.variance.sqrt().item() < 60


def test_warm_up_keeps_what_a_stage_says():
    stage = Stage("late", prepare=(Remember(),), clip=1.0)
    first, second = warmed_up(stage, 0.25, BoundBy("inference.start"))
    assert (first.name, first.share, second.share) == ("vae", 0.25, 0.75)
    assert replace(second, share=1.0, joined=False) == stage
    assert second.joined
    (alone,) = warmed_up(stage, 0, BoundBy("inference.start"))
    assert alone.prepare == stage.prepare
    with pytest.raises(ValueError, match=r"in \[0, 1\); got 1"):
        warmed_up(stage, 1, BoundBy())


def test_a_warm_up_is_judged_by_what_it_is_for(tmp_path: Path):
    """The encoder's bound is trained, the refined one is looked at: the second stage begins where that is best."""
    data = curvae.data.load("digits")
    torch.manual_seed(0)
    system = vlae(data.spec, latent=2, hidden=16, start="random")
    run = training.fit(system, data, epochs=4, out=tmp_path / "run", progress=False, device="cpu")
    rows, (first, second) = run.metrics(), system.stages()
    assert rows["stage"] == ["vae"] * 3 + ["laplace"]
    batch = data.validation.batch(torch.arange(len(data.validation)))
    with torch.no_grad():
        torch.manual_seed(1)
        refined = first.judge(system, batch).value
        torch.manual_seed(1)
        torch.testing.assert_close(second.judge(system, batch).value, refined)
        assert (refined - first.bound_of(system, batch).value).mean() > 0.05
    assert rows["validation_bound"][2] - rows["train_bound"][2] > 0.05
