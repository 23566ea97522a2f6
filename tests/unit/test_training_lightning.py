"""Callbacks and loggers of Lightning, and what of a bound's information reaches the log."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger

import curvae
from curvae import training
from curvae.objectives import Bound
from curvae.training import RunError
from curvae.training.loop import checkpoint, loggers
from curvae.training.loop.running_means import EpochMeans
from curvae.training.run.metrics import COLUMNS
from curvae.training.setup import monitoring
from training_toys import Toy, data_of, interrupt

OPTIONS: dict[str, Any] = {"epochs": 4, "batch_size": 20, "progress": False, "device": "cpu"}
"""Two epochs of three batches in each stage; the second takes two steps a batch."""


class Seen(Callback):
    """What each epoch looks like from a callback; its state is saved with the run."""

    def __init__(self):
        self.starts: list[tuple[int, int]] = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts.append((trainer.current_epoch, trainer.global_step))

    def state_dict(self) -> dict[str, Any]:
        return {"starts": self.starts}

    def load_state_dict(self, state_dict: dict[str, Any]):
        self.starts = list(state_dict["starts"])


class Last(Checkpoint):
    """Monitors what was logged, after each epoch."""

    def __init__(self, stop: bool = False):
        self.logged: list[dict[str, float]] = []
        self.stop = stop

    def on_train_epoch_end(self, trainer, pl_module):
        self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})
        trainer.should_stop |= self.stop


class Memory(Logger):
    """Keeps what it is given, as a service would, under an identifier."""

    served: ClassVar[dict[str, list[tuple[int | None, dict[str, float]]]]] = {}

    def __init__(self, identifier: str | None = None):
        super().__init__()
        self._version = identifier or f"run-{len(self.served)}"
        self.experiment = self.served.setdefault(self._version, [])

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        return self._version

    def log_metrics(self, metrics, step=None):
        self.experiment.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        """There are none."""


class Service(WandbLogger):
    """One run a process, which is to be finished."""

    runs: ClassVar[list[str]] = []

    def __init__(self, identifier: str | None = None):
        Logger.__init__(self)
        self._id, self._save_dir = identifier or "first", "."
        self.runs.append(f"{self._id} begins")

    @property
    def experiment(self):
        return SimpleNamespace(id=self._id, finish=lambda exit_code: self.runs.append(f"ends with {exit_code}"))

    @property
    def version(self) -> str:
        return self._id

    def log_metrics(self, metrics, step=None):
        """Kept elsewhere."""

    def finalize(self, status):
        """Of a stage."""


@pytest.fixture(autouse=True)
def _saved_after_every_epoch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(Memory, "served", {})


def fitted(folder: Path, system: Toy | None = None, **options: Any) -> training.RunFolder:
    return training.fit(system or Toy(), data_of(), out=folder, **{**OPTIONS, **options})


def cut(folder: Path, **options: Any) -> None:
    """A run that is interrupted in its last epoch."""
    system = Toy()
    system.at = {16: interrupt}
    with pytest.raises(KeyboardInterrupt):
        fitted(folder, system, **options)


def test_callbacks_go_through_all_stages_and_see_every_column(tmp_path: Path):
    seen, last = Seen(), Last()
    rows = fitted(tmp_path / "run", callbacks=[seen, last]).metrics()
    assert seen.starts == [(0, 0), (1, 3), (2, 6), (3, 12)]
    for number, logged in enumerate(last.logged):
        assert logged.keys() == rows.keys() - {"stage"}
        for name, value in logged.items():
            assert value == pytest.approx(rows[name][number], rel=1e-6, nan_ok=True)


def test_callbacks_change_no_number_of_a_run(tmp_path: Path):
    plain = fitted(tmp_path / "plain").metrics()
    watched = fitted(tmp_path / "watched", callbacks=[Seen(), Last()], logger=Memory()).metrics()
    assert plain["validation_bound"] == watched["validation_bound"]
    assert plain["train_bound"] == watched["train_bound"]


def test_a_run_that_was_cut_off_goes_on_with_the_states_of_its_callbacks(tmp_path: Path):
    whole, early = Seen(), EarlyStopping("validation_bound", patience=9)
    fitted(tmp_path / "whole", callbacks=[whole, early])
    cut(tmp_path / "run", callbacks=[Seen(), EarlyStopping("validation_bound", patience=9)])
    again, resumed = Seen(), EarlyStopping("validation_bound", patience=9)
    fitted(tmp_path / "run", callbacks=[again, resumed])
    assert again.starts == whole.starts
    assert resumed.state_dict() == early.state_dict()
    assert resumed.best_score.isfinite()


def test_a_run_says_which_callbacks_looked_on_and_claims_no_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curvae.training.fits.fit.custom_parts", lambda recorded: [])
    assert fitted(tmp_path / "plain").config.get("replayable") is True
    seen, last = (f"{__name__}.{each.__name__}" for each in (Seen, Last))
    begun = fitted(tmp_path / "begun", callbacks=[Seen(), Last()]).config
    assert (begun.get("callbacks"), begun.get("replayable")) == ([last, seen], False)
    cut(tmp_path / "run")
    joined = fitted(tmp_path / "run", callbacks=[Last()])
    assert (joined.config.get("callbacks"), joined.config.get("replayable")) == ([last], False)
    again = training.train_on(joined, data_of(), Toy(), epochs=2, progress=False, callbacks=[Seen()]).config
    assert (again.get("callbacks"), len(again.get("cycles", ()))) == ([last, seen], 1)


def test_a_run_goes_on_without_the_callbacks_that_it_began_with(tmp_path: Path):
    cut(tmp_path / "run", callbacks=[Last()])
    assert fitted(tmp_path / "run").config.get("callbacks") == [f"{__name__}.Last"]


def test_a_state_that_only_a_pickle_holds_is_refused(tmp_path: Path):
    seen = Seen()
    seen.starts = [SimpleNamespace()]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RunError, match=r"callbacks: expected states of numbers, text, tensors .*got types\.SimpleName"):
        fitted(tmp_path / "run", callbacks=[seen])


def test_should_stop_ends_a_stage_and_not_the_run(tmp_path: Path):
    run = fitted(tmp_path / "run", epochs=8, callbacks=[Last(stop=True)])
    assert run.metrics()["stage"] == ["one", "two"]
    assert run.state == "finished"
    found = fitted(tmp_path / "early", epochs=8, callbacks=[EarlyStopping("train_bound", patience=2, min_delta=1e9)])
    assert found.metrics()["stage"] == ["one"] * 3 + ["two"]


def test_should_stop_within_an_epoch_still_books_it(tmp_path: Path):
    class First(Callback):
        def on_train_batch_end(self, trainer, *_: object):
            trainer.should_stop = True

    rows = fitted(tmp_path / "run", callbacks=[First()]).metrics()
    assert (rows["stage"], rows["step"], rows["epoch"]) == (["one", "two"], [1, 3], [1, 2])


def test_a_stage_that_was_stopped_stays_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Cut off before the next one has begun, and taken up without the callback."""

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Toy, "note", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "run", callbacks=[Last(stop=True)])
    assert fitted(tmp_path / "run").metrics()["stage"] == ["one", "two", "two"]


def test_a_callback_of_lightning_may_save_models_of_its_own(tmp_path: Path):
    fitted(tmp_path / "run", callbacks=[ModelCheckpoint(monitor="validation_bound", filename="best")])
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()


def test_a_logger_gets_every_column_at_the_steps_of_the_run(tmp_path: Path):
    logger = Memory()
    rows = fitted(tmp_path / "run", logger=logger).metrics()
    assert [step for step, _ in logger.experiment] == rows["step"]
    assert [logged["validation_bound"] for _, logged in logger.experiment] == pytest.approx(rows["validation_bound"])
    assert all(logged.keys() >= rows.keys() - {"stage", "step"} for _, logged in logger.experiment)


def test_a_service_knows_a_run_through_resume_and_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(monitoring.LOGGERS, "wandb", "lightning")
    monkeypatch.setitem(loggers.SERVICES, "wandb", lambda session, identifier: Memory(identifier))
    cut(tmp_path / "run", logger="wandb")
    run = fitted(tmp_path / "run", logger="wandb")
    assert run.status.get("tracked") == {"wandb": "run-0"}
    training.train_on(run, data_of(), Toy(), progress=False, logger="wandb")
    assert [step for step, _ in Memory.served.pop("run-0")] == run.metrics()["step"]
    assert len(run.metrics()["step"]) == 8
    assert not Memory.served


def test_a_run_of_a_service_ends_with_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Service, "runs", [])
    monkeypatch.setitem(monitoring.LOGGERS, "wandb", "lightning")
    monkeypatch.setitem(loggers.SERVICES, "wandb", lambda session, identifier: Service(identifier))
    cut(tmp_path / "run", logger="wandb")
    fitted(tmp_path / "run", logger="wandb")
    assert Service.runs == ["first begins", "ends with 1", "first begins", "ends with 0"]
    fitted(tmp_path / "own", logger=Service())
    assert Service.runs[4:] == ["first begins"]  # a logger of the user's own stays open


def test_tensorboard_goes_on_where_a_run_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was logged after the last save is logged again, once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(checkpoint, "SAVE_EVERY", math.inf)
    cut(tmp_path / "run", logger="tensorboard")
    run = fitted(tmp_path / "run", logger="tensorboard")
    found = EventAccumulator(str(run.path / "tensorboard")).Reload().Scalars("validation_bound")
    assert [event.step for event in found] == run.metrics()["step"]
    assert [event.value for event in found] == pytest.approx(run.metrics()["validation_bound"])


def test_nothing_but_the_table_is_written_unless_asked_for(tmp_path: Path):
    assert not (fitted(tmp_path / "run").path / "tensorboard").exists()


def test_an_unknown_logger_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"logger: expected one of tensorboard, wandb, mlflow, .*got 'board'"):
        fitted(tmp_path / "run", logger="board")
    monkeypatch.setattr(monitoring.importlib.util, "find_spec", lambda name: None)
    for name, extra in (("tensorboard", "track"), ("wandb", "wandb"), ("mlflow", "mlflow")):
        with pytest.raises(RunError, match=rf"logger: '{name}' needs .*pip install 'curvae\[{extra}\]'"):
            fitted(tmp_path / "run", logger=name)
    assert not (tmp_path / "run").exists()


class Telling(Toy):
    """Says more of each batch: a number a row, one a batch, one that the log has already, and a path that it leaves."""

    def bound(self, batch):
        bound = super().bound(batch)
        first = batch.x[:, 0].abs()
        more = {"first": first, "largest": first.max(), "step": first > 1, "path": torch.ones(3, len(first))}
        return bound._replace(info={**bound.info, **more})

    def shifted(self, batch):
        bound = super().shifted(batch)
        return bound._replace(info={**bound.info, "late": torch.tensor(2)})

    def stages(self):
        first, second = super().stages()
        return first, curvae.systems.Stage("two", second.trained, Telling.shifted, monitor="surrogate")


def test_every_number_of_the_information_reaches_the_log(tmp_path: Path):
    run = fitted(tmp_path / "run", Telling())
    rows, x = run.metrics(), data_of().train.x[:, 0].double().abs()
    assert [name for name in rows if name not in COLUMNS] == ["first", "largest", "info_step", "late"]
    assert rows["first"] == pytest.approx([x.mean().item()] * 4, rel=1e-6)
    assert rows["info_step"] == pytest.approx([(x > 1).double().mean().item()] * 4, rel=1e-6)
    assert repr(rows["late"]) == "[nan, nan, 2.0, 2.0]"
    assert rows["kl"] == [1.0] * 4
    assert all(math.isfinite(value) and value <= x.max() for value in rows["largest"])


def test_a_number_a_batch_counts_once_a_batch(tmp_path: Path):
    class Sized(Toy):
        def bound(self, batch):
            bound = super().bound(batch)
            return bound._replace(info={"rows": torch.tensor(len(batch.x))})

    assert fitted(tmp_path / "run", Sized(), epochs=2).metrics()["rows"] == pytest.approx([50 / 3] * 2)


def test_a_batch_that_stands_in_for_none_counts_for_none():
    """In a process that has no part of a batch its numbers have a column all the same: all processes sum the same."""
    means = EpochMeans()
    info = {"kl": torch.ones(2), "scale": torch.tensor(5.0)}
    means.add(Bound(torch.ones(2), torch.ones(2), info), torch.tensor(1.0), rows=False)
    assert repr(means.info.read()) == "{'kl': nan, 'scale': nan}"
    means.add(Bound(torch.ones(2), torch.ones(2), info), torch.tensor(3.0), keep=torch.tensor(False))
    means.add(Bound(torch.ones(2), torch.ones(2), {**info, "kl": torch.tensor([2.0, 4.0])}), torch.tensor(2.0))
    row = means.row("one", lambda tensor: tensor)
    assert (row.kl, row.info, row.grad_norm) == (3.0, {"scale": 5.0}, 1.5)


def test_the_door_passes_callbacks_and_loggers_on(tmp_path: Path):
    seen, logger = Seen(), Memory()
    options = {"progress": False, "latent": 2, "hidden": 8, "max_updates": 20, "restarts": 2, "out": tmp_path / "run"}
    found = curvae.fit("vae", "digits", logger=logger, callbacks=[seen], **options)
    assert not seen.starts  # each start has a copy
    assert len(logger.experiment) == 2 * len(found.run.metrics()["epoch"])
    again = curvae.fit(found, "digits", callbacks=[seen], max_updates=20, progress=False, out=tmp_path / "warm")
    assert len(seen.starts) == len(again.run.metrics()["epoch"])
