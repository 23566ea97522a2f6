"""How long training lasts: in epochs, updates or minutes, over its stages, once more, and cut off."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

import curvae
from curvae import training
from curvae.data import from_array
from curvae.systems import Cosine, Stage, vae, vlae
from curvae.training import train_on
from curvae.training.loop.stages import part_of_cycle
from curvae.training.setup.length import Length
from curvae.training.setup.recommended import recommended
from curvae.training.setup.settings import TrainingSettings
from training_toys import Toy, data_of, interrupt

QUIET = {"device": "cpu", "progress": False}


def steps_of(rows, stage: str) -> list[int]:
    return [step for step, name in zip(rows["step"], rows["stage"], strict=True) if name == stage]


def toy(folder: Path, system: Toy | None = None, **options):
    """Five batches an epoch."""
    torch.manual_seed(0)
    options |= QUIET | {"batch_size": 10, "learning_rate": 0.1}
    return training.fit(system or Toy(noise=0.3), data_of(), out=folder, **options)


def test_updates_are_those_that_were_asked_for(tmp_path: Path):
    """The second stage steps twice a batch; a round is 50 updates at least, and the last one is cut short."""
    rows = toy(tmp_path / "run", max_updates=171).metrics()
    one = steps_of(rows, "one")
    assert one in ([50, 85], [50, 86])
    assert rows["step"][-1] in (171, 172), "a batch is not cut in two"
    assert rows["epoch"] == sorted(rows["epoch"])


def test_minutes_are_minutes_and_every_stage_has_its_share(tmp_path: Path):
    begin = time.monotonic()
    rows = toy(tmp_path / "run", minutes=0.05).metrics()
    assert set(rows["stage"]) == {"one", "two"}
    assert 2.5 < rows["seconds"][-1] < time.monotonic() - begin


def test_one_length_is_enough():
    with pytest.raises(ValueError, match="one of epochs, max_updates, minutes, got epochs and minutes"):
        TrainingSettings(epochs=3, minutes=1.0)
    with pytest.raises(ValueError, match="minutes: expected a positive number"):
        TrainingSettings(minutes=0.0)


def test_a_length_is_divided_by_time():
    """A stage whose updates cost four times as much has a quarter of them."""
    assert [each.amount for each in Length("max_updates", 1000).divided([0.5, 0.5], [1.0, 4.0])] == [800, 200]
    assert [each.amount for each in Length("minutes", 10).divided([0.5, 0.5], [1.0, 4.0])] == [5, 5]


@pytest.mark.parametrize("length", [{"epochs": 6}, {"max_updates": 131}])
def test_cut_off_in_any_unit_it_comes_to_the_same(tmp_path: Path, length):
    whole = toy(tmp_path / "whole", **length)
    cut = Toy(noise=0.3)
    cut.at = {22: interrupt}
    with pytest.raises(KeyboardInterrupt):
        toy(tmp_path / "cut", cut, **length)
    found = toy(tmp_path / "cut", **length)
    for name in ("epoch", "step", "train_bound", "validation_bound"):
        assert repr(found.metrics()[name]) == repr(whole.metrics()[name])
    assert found.digest() == whole.digest()


def test_joined_stages_are_one_cycle():
    stages = Stage("a", share=0.7), Stage("b", share=0.3, cost=4, joined=True), Stage("c")
    assert part_of_cycle(stages, 1) == pytest.approx((0.7, 0.3))
    assert part_of_cycle(stages, 2) == (0.0, 1.0)


def test_the_rate_falls_on_through_a_joined_stage(tmp_path: Path, monkeypatch):
    """By the share of time that is done: where the refined stage begins it is that of a cosine at 0.7."""
    seen = []
    step = torch.optim.AdamW.step

    def recorded(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    data = curvae.data.load("digits")
    system = vlae(data.spec, latent=2, hidden=8)
    rows = training.fit(system, data, max_updates=100, learning_rate=1.0, out=tmp_path / "run", **QUIET).metrics()
    early = max(steps_of(rows, "vae"))
    assert early < min(steps_of(rows, "laplace"))
    assert seen[early] == pytest.approx(Cosine()(0.7), abs=1e-6)
    assert seen[early - 1] > seen[early] > seen[-1]
    assert seen[-1] < 0.02


def test_the_optimizer_goes_on_through_a_joined_stage(tmp_path: Path, monkeypatch):
    """Adam's step count at the end is that of both stages."""
    counts = []
    step = torch.optim.AdamW.step

    def recorded(self, *args, **kwargs):
        found = step(self, *args, **kwargs)
        counts.append(max(float(state["step"]) for state in self.state.values()))
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    data = curvae.data.load("digits")
    training.fit(vlae(data.spec, latent=2, hidden=8), data, max_updates=80, out=tmp_path / "run", **QUIET)
    assert counts == list(range(1, 81))


def test_where_it_starts_is_a_candidate_for_the_best(tmp_path: Path):
    """A rate that ruins everything at once leaves the linear model."""
    data = curvae.data.from_array(torch.randn(200, 3) @ torch.randn(3, 6) + 0.3 * torch.randn(200, 6))
    system = vae(data.spec, latent=2, hidden=16)
    run = training.fit(
        system, data, epochs=3, learning_rate=5.0, schedule="constant", clip=None, out=tmp_path / "run", **QUIET
    )
    fresh = vae(data.spec, latent=2, hidden=16)
    fresh.stages()[0].start(fresh, data)
    batch = data.validation.batch(torch.arange(len(data.validation)))
    assert max(run.metrics()["validation_bound"]) < fresh.bound(batch).value.mean().item()
    values = []
    for each in (system, fresh):
        torch.manual_seed(0)
        values.append(each.eval().bound(batch).value)
    torch.testing.assert_close(*values)


def test_a_finished_run_goes_on(tmp_path: Path):
    """Its metrics go on, its weights are no worse, and what the earlier cycle was is kept."""
    run = toy(tmp_path / "run", Toy(noise=0.0), epochs=4)
    before = run.metrics()
    found = train_on(run, data_of(), Toy(noise=0.0), progress=False, max_updates=100)
    after = found.metrics()
    assert found.state == "finished"
    assert after["epoch"][: len(before["epoch"])] == before["epoch"]
    assert after["step"][-1] >= before["step"][-1] + 100
    assert max(after["validation_surrogate"]) >= max(before["validation_surrogate"])
    assert found.config["training"]["max_updates"] == 100
    assert found.config["training"]["epochs"] is None
    assert [each["epochs"] for each in found.config["cycles"]] == [4]


def test_a_cycle_that_was_cut_off_goes_on(tmp_path: Path):
    for name in ("whole", "cut"):
        toy(tmp_path / name, epochs=4)
    train_on(tmp_path / "whole", data_of(), Toy(noise=0.3), progress=False, epochs=4)
    cut = Toy(noise=0.3)
    cut.at = {12: interrupt}
    with pytest.raises(KeyboardInterrupt):
        train_on(tmp_path / "cut", data_of(), cut, progress=False, epochs=4)
    with pytest.raises(training.RunError, match="got one that is stopped; leave out what should change"):
        train_on(tmp_path / "cut", data_of(), Toy(noise=0.3), progress=False, epochs=9)
    train_on(tmp_path / "cut", data_of(), Toy(noise=0.3), progress=False)
    whole, cut = (training.RunFolder.open(tmp_path / name) for name in ("whole", "cut"))
    assert repr(whole.metrics()["validation_bound"]) == repr(cut.metrics()["validation_bound"])
    assert whole.digest() == cut.digest()


def test_a_run_that_never_finished_is_no_run_to_continue(tmp_path: Path):
    system = Toy()
    system.at = {3: interrupt}
    with pytest.raises(KeyboardInterrupt):
        toy(tmp_path / "run", system, epochs=4)
    with pytest.raises(training.RunError, match="got one that is stopped; the command that began it goes on with it"):
        train_on(tmp_path / "run", data_of(), Toy(), progress=False)


def test_what_is_left_open_is_filled_in_by_size():
    data = curvae.data.load("digits")
    small, large = (recommended(TrainingSettings(), vae(data.spec, hidden=width), data) for width in (256, 512))
    assert small.learning_rate == 2 * large.learning_rate
    assert small.length.unit == "max_updates"
    assert recommended(TrainingSettings(epochs=3, learning_rate=0.1), vae(data.spec), data).length == Length(
        "epochs", 3
    )
    assert (small.batch_size, small.learning_rate, small.max_updates) == (
        128,
        2e-3,
        round(100 * len(data.train) ** 0.5),
    )
    many = from_array(np.zeros((20_000, 3), np.float32) + np.arange(3), split=(0.8, 0.1, 0.1), name="many")
    large = recommended(TrainingSettings(), vae(many.spec, hidden=64), many)
    assert (large.batch_size, large.max_updates) == (256, round(100 * len(many.train) ** 0.5))
    assert large.learning_rate == pytest.approx(4e-3 * 2**0.5)


def test_a_trained_system_goes_on_from_its_weights(tmp_path: Path):
    """A fresh one starts at the linear model; one that was trained, or loaded, does not start again."""
    data = curvae.data.load("digits")
    system = vae(data.spec, latent=2, hidden=16)
    training.fit(system, data, epochs=3, out=tmp_path / "one", **QUIET)
    best = max(training.RunFolder.open(tmp_path / "one").metrics()["validation_bound"])
    again = training.fit(
        training.load(tmp_path / "one"), data, epochs=1, learning_rate=1e-9, out=tmp_path / "two", **QUIET
    )
    assert again.metrics()["validation_bound"][0] == pytest.approx(best, abs=1e-3)
