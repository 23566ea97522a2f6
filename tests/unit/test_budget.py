"""The budget of inference: when it rises and falls, what a level trains, and that a run taken up again is the same."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import curvae
from curvae import training
from curvae.inference import AmortizedGaussian, Laplace
from curvae.systems import Level, Stage, vlae
from curvae.training.loop import checkpoint as session
from curvae.training.loop import inference_budget as budget
from curvae.training.loop.inference_budget import Standing, learned, moved
from training_toys import Toy, data_of, interrupt
from zoo import relu_model


def test_the_rate_is_known_after_two_reviews_and_follows():
    first = learned(Standing(), 10.0)
    assert first.bound == 10.0
    assert math.isnan(first.rate)
    second = learned(first, 18.0)
    assert second.rate == 8.0
    assert learned(second, 20.0).rate == pytest.approx(8.0 - 4 / 5 * 6.0)


def test_late_in_training_one_bad_epoch_is_not_the_end_of_learning():
    here = Standing()
    for epoch in range(60):
        here = learned(here, 100 * math.log(1 + epoch))
    assert 100 / 60 < here.rate < 1.5 * 100 / 60
    assert learned(here, here.bound - 4.0).rate > 0.8 * here.rate


@pytest.mark.parametrize(
    ("level", "rate", "bounds", "after"),
    [
        (0, math.nan, [0.0, 99.0, 99.0], 0),  # nothing is known yet
        (0, 5.0, [0.0, 31.0, 31.0], 1),  # 31 > 4 * 5 * 1.5
        (0, 5.0, [0.0, 29.0, 99.0], 0),  # only the next level counts
        (0, -5.0, [0.0, 1.0, 1.0], 1),  # where plain learning makes things worse, any gap is worth it
        (1, 5.0, [0.0, 31.0, 61.0], 1),  # 30 < 4 * 5 * (10 / 2.5 - 1)
        (1, 5.0, [0.0, 31.0, 92.0], 2),
        (1, 5.0, [0.0, 5.0, 6.0], 0),  # 5 < 4 * 5 * (1 - 1 / 2.5) / 2
        (2, 5.0, [0.0, 5.0, 50.0], 2),
        (2, 5.0, [0.0, 45.0, 50.0], 1),
        (2, 0.0, [0.0, 45.0, 50.0], 2),
    ],
)
def test_levels_move_with_the_gap(
    monkeypatch: pytest.MonkeyPatch, level: int, rate: float, bounds: list[float], after: int
):
    monkeypatch.setattr(budget, "HORIZON", 4.0)
    there = moved(Standing(level, bounds[level], rate), bounds, [1.0, 2.5, 10.0])
    assert there.level == after
    assert there.bound == bounds[after]
    if after != level:
        assert math.isnan(there.rate)  # to be learned anew


@pytest.mark.parametrize(("remaining", "after"), [(6, 0), (5, 1), (0, 1)])  # 31 > 5 * 5 * 0.8 * 1.5
def test_the_last_epochs_are_refined(monkeypatch: pytest.MonkeyPatch, remaining: int, after: int):
    monkeypatch.setattr(budget, "HORIZON", 1000.0)
    assert moved(Standing(0, 0.0, 0.8), [0.0, 31.0, 31.0], [1.0, 2.5, 10.0], remaining).level == after


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([("a", 1.0), ("b", 1.0)], r"costs that are positive and rise from level to level; got \[1.0, 1.0\]"),
        ([("a", 0.0), ("b", 1.0)], "costs that are positive"),
        ([("a", 1.0), ("a", 2.0)], "a name of its own"),
    ],
)
def test_levels_that_cannot_be_chosen_among(levels: list, message: str):
    with pytest.raises(ValueError, match=message):
        budget.check([Level(name, Toy.bound, cost) for name, cost in levels])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rise within a few epochs."""
    monkeypatch.setattr(budget, "HORIZON", 4.0)
    monkeypatch.setattr(budget, "WINDOW", 1.0)


class Leveled(Toy):
    """Two levels; the cheap one is 100 nats loose."""

    def stages(self) -> tuple[Stage, ...]:
        levels = Level("loose", Toy.shifted, 1.0), Level("tight", Toy.bound, 3.0)
        return (Stage("train", prepare=(Toy.size,), levels=levels),)


def fitted(path: Path, system: Toy, epochs: int = 8) -> "curvae.RunFolder":
    return training.fit(
        system, data_of(), epochs=epochs, batch_size=20, learning_rate=0.3, schedule="constant", out=path, device="cpu"
    )


def test_a_run_says_which_level_and_gap(tmp_path: Path, quick: None):
    rows = fitted(tmp_path / "run", Leveled()).metrics()
    assert rows["level"] == sorted(rows["level"])
    assert rows["level"][:2] == [0, 0]
    assert rows["level"][-1] == 1
    gaps = [100.0 if level == 0 else 0.0 for level in rows["level"]]
    assert rows["gap"] == pytest.approx(gaps, abs=1e-4)
    jump = rows["level"].index(1)
    assert rows["validation_bound"][jump] > rows["validation_bound"][jump - 1] + 50


@pytest.mark.parametrize(("finish", "last"), [(3.0, 1), (math.inf, 0)])
def test_a_run_refines_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: float, last: int):
    monkeypatch.setattr(budget, "HORIZON", 1e9)
    monkeypatch.setattr(budget, "FINISH", finish)
    rows = fitted(tmp_path / "run", Leveled())
    assert rows.metrics()["level"][-1] == last


def test_a_stage_without_levels_has_none(tmp_path: Path):
    rows = training.fit(Toy(), data_of(), epochs=2, out=tmp_path / "run", device="cpu").metrics()
    assert all(math.isnan(value) for value in rows["level"] + rows["gap"])


@pytest.mark.parametrize("call", [4, 7, 10, 13, 22])
def test_interrupted_and_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, call: int):
    """The same epochs at the same levels, the same numbers and weights, wherever it was cut off (3 calls an epoch)."""
    monkeypatch.setattr(session, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(session, "SAVE_SHARE", 1e9)
    whole = fitted(tmp_path / "whole", Leveled(noise=0.3))
    cut = Leveled(noise=0.3)
    cut.at = {call: interrupt}
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", cut)
    again = fitted(tmp_path / "cut", Leveled(noise=0.3))
    for name, values in whole.metrics().items():
        if name != "seconds":
            assert repr(again.metrics()[name]) == repr(values)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == two


def test_vlae_follows_its_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "HORIZON", 0.01)
    torch.manual_seed(0)
    data = curvae.data.load("digits")
    system = vlae(data.spec, latent=4, hidden=32, budget=True, memory=True, start="random")
    rate = {"learning_rate": 2e-3, "schedule": "constant"}
    rows = training.fit(system, data, epochs=5, out=tmp_path / "run", device="cpu", **rate).metrics()
    assert rows["level"][0] == 0
    assert rows["level"][-1] > 0
    assert min(rows["gap"]) > -1.0
    assert training.load(tmp_path / "run").posterior(data.test.x[:3]).covariance.shape == (3, 4, 4)


def test_published_takes_all_steps():
    with pytest.raises(ValueError, match="choose one of them"):
        vlae(curvae.data.load("digits").spec, budget=True, published=True)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_another_number_of_steps_for_one_call(steps: int):
    model, batch = relu_model("gaussian", hidden=(30, 30))
    inference = Laplace(AmortizedGaussian(nn.Linear(10, 6).double()), steps=3)
    expected = Laplace(inference.start, steps=steps)(model, batch)
    found = inference(model, batch, steps)
    torch.testing.assert_close(found.posterior.mean, expected.posterior.mean)
    assert {name: value.shape for name, value in found.info.items()} == {
        name: value.shape for name, value in expected.info.items()
    }
    assert inference.steps == 3
    with pytest.raises(ValueError, match="steps must be 0 or more; got -1"):
        inference(model, batch, -1)
