"""fit: stages, state, skipped steps, early stopping, repeatability."""

import dataclasses
import json
import math
import signal
from pathlib import Path

import pytest
import torch

import curvae
from curvae import linalg, training
from curvae.systems import vae, vlae
from curvae.training import RunError
from curvae.training.loop import lightning_module
from curvae.training.loop.checkpoint import Position, Session
from curvae.training.run.metrics import MetricsWriter, Row
from training_toys import Toy, data_of, interrupt, not_finite


def test_two_stages_state_and_a_table_by_datum(tmp_path: Path):
    system, data = Toy(), data_of()
    run = training.fit(
        system, data, epochs=5, batch_size=20, learning_rate=0.1, schedule="constant", out=tmp_path / "run"
    )
    rows = run.metrics()
    assert system.prepared == ["one", "two"]
    assert rows["stage"] == ["one"] * 3 + ["two"] * 2 or rows["stage"] == ["one"] * 2 + ["two"] * 3
    one = rows["stage"].count("one")
    steps = 3 * one + 2 * 3 * (5 - one)
    assert rows["epoch"] == [1, 2, 3, 4, 5]
    assert rows["step"][-1] == steps
    assert rows["train_bound"][one] < -100 < rows["validation_surrogate"][one]  # the stage's own bound
    assert rows["kl"] == [1.0] * 5
    assert 0.2 < (data.train.x[:, 0] > 0).float().mean() < 1, "kinks, which are no failure, are among them"
    assert rows["not_ok"][0] == pytest.approx((data.train.x[:, 0] > 1).float().mean().item(), abs=1e-6)
    assert run.state == "finished"
    assert not system.training
    # state: in the last epoch of the second stage everything was written; the best weights are the last ones here
    assert system.counter.step == steps
    torch.testing.assert_close(system.visits, torch.full((50,), float(one + 2 * (5 - one))))


def test_only_the_stages_parameters_train_and_are_thawed_afterwards(tmp_path: Path):
    system = Toy()
    seen: list[tuple[float, float]] = []
    system.at = {
        k: lambda bound: seen.append((system.center[0].item(), system.scale.item())) or bound for k in range(99)
    }
    training.fit(system, data_of(), epochs=4, batch_size=50, schedule="constant", out=tmp_path / "run")
    centers, scales = zip(*seen, strict=True)
    assert scales[:2] == (0.0, 0.0)
    assert centers[0] != centers[1]
    assert len(set(centers[2:])) == 1
    assert scales[-1] != 0
    assert all(parameter.requires_grad and parameter.grad is None for parameter in system.parameters())


def test_a_frozen_parameter_stays_frozen(tmp_path: Path):
    system = Toy()
    system.center.requires_grad_(False)
    with pytest.raises(ValueError, match=r"Stage 'one': trained=\('center',\) matches no parameter"):
        training.fit(system, data_of(), epochs=4, out=tmp_path / "run")


def test_validation_writes_no_state_and_repeats_its_noise(tmp_path: Path):
    system = Toy(noise=1.0)
    run = training.fit(system, data_of(), epochs=4, batch_size=50, learning_rate=1e-12, out=tmp_path / "run")
    surrogate = run.metrics()["validation_surrogate"]
    assert surrogate[0] == surrogate[1]
    assert len(set(run.metrics()["train_bound"][:2])) == 2
    assert system.counter.step == 2 * 2  # the best of the first stage is its start


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path: Path):
    system = Toy()
    system.at = {2: not_finite, 3: not_finite}
    run = training.fit(system, data_of(), epochs=4, batch_size=20, out=tmp_path / "run", max_skipped=3)
    assert run.metrics()["skipped"] == [2, 0, 0, 0]
    assert run.state == "finished"
    assert all(math.isfinite(value) for value in run.metrics()["train_bound"])
    assert all(bool(value.isfinite().all()) for value in system.state_dict().values())


def test_too_many_skipped_steps_stop_the_run_and_name_the_tensor(tmp_path: Path):
    system = Toy()
    system.at = dict.fromkeys(range(5, 99), not_finite)
    with pytest.raises(RunError, match=r"stopped at step 7 \(stage 'one'\): 3 steps .* first Bound.surrogate") as error:
        training.fit(system, data_of(), epochs=9, batch_size=20, out=tmp_path / "run", max_skipped=3)
    assert "\n" not in str(error.value)
    run = curvae.RunFolder.open(tmp_path / "run")
    assert run.state == "stopped"
    assert run.status["reason"] == str(error.value)
    kept = training.load(run.path, system=_sized(Toy(), 50))
    assert kept.get_parameter("center").isfinite().all()
    assert kept.get_buffer("counter.step") == 3  # of the end of the first epoch


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the device."""
    judged = lightning_module.runs_ahead
    monkeypatch.setattr(
        lightning_module, "runs_ahead", lambda device, optimizer: judged(torch.device("cuda"), optimizer)
    )
    monkeypatch.setattr(linalg, "can_sync", lambda tensor: False)


def outcome(path: Path, **settings):
    system = Toy()
    system.at = {2: not_finite, 3: not_finite, 9: not_finite}
    run = training.fit(system, data_of(), epochs=4, batch_size=20, out=path, **settings)
    metrics = {name: column for name, column in run.metrics().items() if name != "seconds"}
    return metrics, system.state_dict()


def test_judging_steps_on_the_device_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The fused optimizer, the state and the means leave out the same steps."""
    metrics, state = outcome(tmp_path / "looking")
    as_on_a_gpu(monkeypatch)
    ahead, other = outcome(tmp_path / "ahead")
    assert ahead["skipped"] == metrics["skipped"] == [2, 0, 1, 0]
    for name, column in metrics.items():
        assert ahead[name] == pytest.approx(column, nan_ok=True), name
    for name, value in state.items():
        torch.testing.assert_close(other[name], value)


def test_too_many_skipped_steps_are_seen_at_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(lightning_module, "LOOK", 8)
    system = Toy()
    system.at = dict.fromkeys(range(5, 99), not_finite)
    with pytest.raises(RunError, match=r"stopped at step 8 \(stage 'one'\): 4 steps .* first Bound.surrogate"):
        training.fit(system, data_of(), epochs=9, batch_size=20, out=tmp_path / "run", max_skipped=3)


def _sized(system: Toy, rows: int) -> Toy:
    system.visits = torch.zeros(rows)
    return system


def test_the_culprit_is_a_parameter_where_one_is_not_finite(tmp_path: Path):
    system = Toy()
    with torch.no_grad():
        system.scale.fill_(torch.inf)
    with pytest.raises(RunError, match="first the parameter scale"):
        training.fit(system, data_of(), epochs=2, out=tmp_path / "run", max_skipped=1)


def test_same_seed_same_weights_other_seed_others(tmp_path: Path):
    data = curvae.data.load("digits")

    def weights(name: str, seed: int) -> torch.Tensor:
        torch.manual_seed(1)
        system = vae(data.spec, latent=2, hidden=16)
        training.fit(system, data, epochs=2, seed=seed, out=tmp_path / name)
        return torch.nn.utils.parameters_to_vector(system.parameters())

    first = weights("a", 0)
    assert torch.equal(first, weights("b", 0))
    assert not torch.equal(first, weights("c", 1))


def test_early_stopping_ends_the_stage(tmp_path: Path):
    system = Toy()
    run = training.fit(system, data_of(), epochs=40, learning_rate=1e-30, patience=3, out=tmp_path / "run")
    assert run.metrics()["stage"].count("one") == 4  # the first, and three that are no better


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({"epochs": 60}, 17),
        ({"epochs": 60, "patience": 0}, 30),
        ({"epochs": 60, "patience": 0.25}, 11),
        ({"max_updates": 3000}, 17),
        ({"epochs": 12}, 6),
    ],
)
def test_half_a_stage_without_a_better_bound_ends_it(tmp_path: Path, options: dict, rounds: int):
    """Whatever the length is said in; never before ten looks at the validation data, and never where it is off."""
    options |= {"learning_rate": 1e-30, "batch_size": 50, "progress": False}
    run = training.fit(Toy(), data_of(), out=tmp_path / "run", **options)
    rows = run.metrics()
    if "epochs" in options:
        assert rows["stage"].count("one") == rounds
    else:
        length = 3000 / 2  # both stages have the same share
        one = [step for step, stage in zip(rows["step"], rows["stage"], strict=True) if stage == "one"]
        assert length / 2 < one[-1] <= length / 2 + 100
    assert run.config["training"]["patience"] == options.get("patience", 0.5)


@pytest.mark.parametrize(("patience", "end"), [(0.5, 25), (0.29, 16), (12, 16), (3, 7), (0, 40)])
def test_patience_goes_back_to_the_best_bound(tmp_path: Path, patience: float, end: int):
    """The fourth of 40 rounds is the best; a run that is cut off after any round ends at the same one."""
    run = training.fit(Toy(), data_of(), epochs=4, out=tmp_path / "run", progress=False)
    optimizer = torch.optim.SGD(Toy().parameters(), lr=1.0)
    session = Session(Toy(), run.path, MetricsWriter(run.path))
    for round_ in range(1, 41):
        session.judge(-abs(round_ - 4.0), passes=1)
        session.finish_round(Row("one"), 1, round_ / 40, patience)
        session.save(optimizer)
        if session.position.done:
            break
        session = Session(Toy(), run.path, MetricsWriter(run.path))
        session.resume()
    assert session.position.stage_epoch == end


@pytest.mark.parametrize("patience", [0.5, 3])
def test_a_start_that_is_hard_to_beat_does_not_end_a_stage(tmp_path: Path, patience: float):
    """A high rate falls below a linear model before it rises above it; the start remains a candidate for the best."""
    run = training.fit(Toy(), data_of(), epochs=4, out=tmp_path / "run", progress=False)
    session = Session(Toy(), run.path, MetricsWriter(run.path), writes=False)
    session.judge(100.0)
    for round_ in range(1, 41):
        session.judge(3.0 * round_, passes=1)
        session.finish_round(Row("one"), 1, round_ / 40, patience)
        assert session.position.done == (round_ == 40)
        assert session.position.best == max(100.0, 3.0 * round_)


def test_a_stage_that_keeps_its_last_weights_never_ends_early(tmp_path: Path):
    class Last(Toy):
        def stages(self):
            return tuple(dataclasses.replace(stage, keep="last") for stage in super().stages())

    options = {"learning_rate": 1e-30, "batch_size": 50, "progress": False}
    for patience in (0.5, 3):
        run = training.fit(Last(), data_of(), epochs=60, patience=patience, out=tmp_path / f"{patience}", **options)
        assert run.metrics()["stage"].count("one") == 30


@pytest.mark.parametrize(("patience", "rounds"), [(3, 4), (0.5, 17)])
def test_patience_in_a_later_cycle_goes_by_that_cycle(tmp_path: Path, patience: float, rounds: int):
    options = {"epochs": 60, "learning_rate": 1e-30, "progress": False}
    run = training.fit(Toy(), data_of(), out=tmp_path / "run", patience=0, batch_size=50, **options)
    found = training.train_on(run, data_of(), Toy(), patience=patience, **options)
    assert found.metrics()["stage"][60:].count("one") == rounds


def test_patience_begins_with_the_stage_where_its_start_has_no_bound(tmp_path: Path):
    run = training.fit(Toy(), data_of(), epochs=4, out=tmp_path / "run", progress=False)
    session = Session(Toy(), run.path, MetricsWriter(run.path), writes=False)
    session.position = Position(epoch=50)
    session.next_stage(joined=False)
    for _ in range(2):
        session.judge(math.nan, passes=1)
        session.finish_round(Row("two"), 1, 0.1, 3)
        assert not session.position.done


def test_the_best_weights_are_kept(tmp_path: Path):
    system, data = Toy(), data_of()
    run = training.fit(system, data, epochs=8, learning_rate=3.0, schedule="constant", out=tmp_path / "run")
    scores = run.metrics()["validation_surrogate"]
    best = max(score for score, stage in zip(scores, run.metrics()["stage"], strict=True) if stage == "two")
    assert max(scores[:4]) > scores[3]  # the rate is so high that the first stage ends badly
    with torch.no_grad():
        here = system.bound(data.validation.batch(torch.arange(20))).surrogate.mean().item()
    assert here == pytest.approx(best, rel=1e-5)
    loaded = training.load(run.path, system=Toy())
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in system.state_dict().items())


def test_digits_improve_with_both_systems(tmp_path: Path):
    data = curvae.data.load("digits")
    final = {}
    for build in (vae, vlae):
        torch.manual_seed(0)
        run = training.fit(build(data.spec, latent=4, hidden=32), data, epochs=8, out=tmp_path / build.__name__)
        bounds = run.metrics()["validation_bound"]
        assert bounds[-1] > bounds[3] > bounds[0]
        final[build.__name__] = bounds[-1]
    assert final["vlae"] > final["vae"]


def test_bfloat16_leaves_the_factors_in_float32(tmp_path: Path):
    data, seen = curvae.data.load("digits"), set()
    system = vlae(data.spec, latent=2, hidden=16, warmup=0)
    system.inference.register_forward_hook(
        lambda module, args, out: seen.add((out.posterior.factor.dtype, out.posterior.mean.dtype))
    )
    system.model.decoder.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    run = training.fit(system, data, epochs=2, precision="bf16-mixed", out=tmp_path / "run")
    assert (torch.float32, torch.float32) in seen
    assert torch.bfloat16 in seen
    assert not any(isinstance(each, tuple) and each != (torch.float32, torch.float32) for each in seen)
    assert all(parameter.dtype == torch.float32 for parameter in system.parameters())
    assert run.metrics()["validation_bound"][1] > run.metrics()["validation_bound"][0]


def test_interruption_is_said_and_can_be_repeated(tmp_path: Path):
    system, handler = Toy(), signal.getsignal(signal.SIGINT)
    system.at = {8: interrupt}
    with pytest.raises(KeyboardInterrupt):
        training.fit(system, data_of(), epochs=8, batch_size=20, out=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    assert json.loads((tmp_path / "run/status.json").read_text())["reason"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs: expected 1 or more, got 0"),
        ({"epochs": 1}, "epochs: expected 2 or more, one for each stage"),
        ({"learning_rate": -1.0}, "learning_rate: expected a positive number"),
        ({"precision": "8-bit"}, "precision: expected one of 32-true, tf32, bf16-mixed; got '8-bit'"),
        ({"device": "abacus"}, "device: expected one of auto, cpu, cuda, mps; got 'abacus'"),
        ({"patience": 1.5}, "patience: expected a share of a stage below 1, or a whole number of epochs, got 1.5"),
        ({"patience": -1}, "patience: expected a share of a stage below 1, or a whole number of epochs, got -1"),
        ({"seed": -1}, "seed: expected an integer"),
        ({"devices": 2, "out": None}, "out: expected a folder where devices > 1"),
    ],
)
def test_misuse_is_named_and_nothing_is_written(tmp_path: Path, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        training.fit(Toy(), data_of(), **{"out": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(tmp_path: Path):
    with pytest.raises(RunError, match="device: 'cuda' is not available here; this machine has cpu"):
        training.fit(Toy(), data_of(), device="cuda", out=tmp_path / "run")


def test_a_system_for_other_data(tmp_path: Path):
    data = curvae.data.load("digits")
    with pytest.raises(ValueError, match=r"made for data of shape \(1, 8, 8\), got data of shape \(3,\)"):
        training.fit(vae(data.spec), data_of(), out=tmp_path / "run")
