"""Where training stands, and how it goes on from there after it was cut off."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curvae.training.errors import DivergedError, RunError
from curvae.training.loop.resume import Position, Saved, encoded, read_resume
from curvae.training.run import files, layout, weights
from curvae.training.run.metrics import MetricsWriter, Row

SAVE_EVERY = 1.0
"""Seconds between two saves at least; a run that is killed loses no more than this and the epoch at hand."""
SAVE_SHARE = 0.05
"""Share of the time that saving may take, where that is more."""
LOOKS = 10
"""Rounds without a better bound that a stage is given at least, where patience is a share of it."""


class Session:
    """The state of a run across its stages: position, best weights, what is on disk.

    Args:
        system: what is trained.
        path: the run folder.
        log: where the rows of metrics go.
        writes: whether this process writes files; with several, one does.
        callbacks: of Lightning, whose states are kept.
    """

    def __init__(
        self, system: nn.Module, path: Path, log: MetricsWriter, writes: bool = True, callbacks: Sequence[Any] = ()
    ):
        self.system = system
        self.path = path
        self.log = log
        self.writes = writes
        self.callbacks = callbacks
        self.tracked: dict[str, str] = {}
        """Under which identifier a logger's service knows the run."""
        self.position = Position()
        self.best: dict[str, Tensor] | None = None
        self.optimizer: Mapping[str, Any] | None = None
        self._since = self._saved = time.monotonic()
        self._cost = 0.0
        self._written = False
        """The best weights are on disk."""

    def resume(self) -> None:
        """Take up what an earlier process saved, if it did; else start anew, with an empty log.

        Raises:
            RunError: the file is damaged, or of another system.
        """
        path = self.path / layout.RESUME
        if os.path.lexists(path):
            saved = read_resume(path)
            self.position, self.best, self.optimizer = saved.position, saved.best, saved.optimizer
            weights.load_into(self.system, saved.model, path)
            for each in self.callbacks:
                if each.state_key in saved.callbacks:
                    each.load_state_dict(dict(saved.callbacks[each.state_key]))
            self._since, self._written = time.monotonic() - self.position.seconds, False
        if self.writes:
            self.tracked = dict(layout.read_document(self.path, layout.STATUS).get("tracked", {}))
            self.log.keep(self.position.rounds)

    def begin(self) -> None:
        """The stage has been prepared: what comes now starts from here."""
        self.position.begun = True
        self.save(None)

    def next_stage(self, joined: bool) -> None:
        """Leave the stage for the next, with its best weights; the optimizer goes on as it is where they are joined."""
        here = self.position
        kept = {name: getattr(here, name) for name in ("rounds", "epoch", "step", "seconds", "in_a_row")}
        starts = {"began": here.seconds, "counted": here.step, "best_epoch": here.epoch, "peak_epoch": here.epoch}
        self.position = Position(here.stage + 1, **kept, **starts)
        self.optimizer = self.optimizer if joined else None

    @property
    def stage_seconds(self) -> float:
        """Time spent on this stage until now, by all processes that worked at it one after the other."""
        return time.monotonic() - self._since - self.position.began

    @property
    def failure(self) -> str:
        """Why a stage that has come to its end has trained nothing; "" if it has."""
        here = self.position
        if here.best is None or (here.stage_epoch and not here.finite):
            return "no epoch had a finite validation bound"
        if here.stage_step and not here.taken:
            return "every step was skipped as not finite"
        return ""

    def diverged(self, stage: str, count: int, culprit: str) -> DivergedError:
        """What is said of so many steps in a row that were not finite."""
        kept = f"the best model so far is kept in {self.path}" if self.best else "no model was kept"
        return DivergedError(
            f"training stopped at step {self.position.step} (stage {stage!r}): {count} steps in a "
            f"row were not finite, first {culprit}. Lower the learning rate or check the data's scale; {kept}."
        )

    def take_best(self) -> None:
        """Give the system the best weights of the stage."""
        if self.best is not None:
            weights.load_into(self.system, self.best, self.path)

    def finish_round(self, row: Row, passes: int, done: float, patience: float) -> Row:
        """Book so many epochs that have been judged, after which that share of the stage is done; the row in full.

        Args:
            row: of the metrics.
            passes: epochs.
            done: share of the stage, in [0, 1].
            patience: the stage ends after so many epochs, or below 1 such a share of it, without a better bound; 0 =
                never early.
        """
        here = self.position
        here.rounds, here.epoch, here.stage_epoch = here.rounds + 1, here.epoch + passes, here.stage_epoch + passes
        here.taken, here.counted = here.taken + here.step - here.counted - row.skipped, here.step
        here.seconds = time.monotonic() - self._since
        here.peak_done = here.peak_done if here.stale else done
        here.done = done >= 1 or self._waited(done, patience)
        row = row._replace(epoch=here.epoch, step=here.step, seconds=round(here.seconds, 3))
        if self.writes:
            self.log.write(row)
        return row

    def save_round(self, optimizer: torch.optim.Optimizer, stop: bool) -> None:
        """Write what is due after a round, with which the stage ends if it is to stop."""
        here = self.position
        here.done = here.done or stop
        if here.done:
            self.optimizer = optimizer.state_dict()
        if here.done or time.monotonic() - self._saved >= max(SAVE_EVERY, self._cost / SAVE_SHARE):
            self.save(optimizer)

    def _waited(self, done: float, patience: float) -> bool:
        """Whether the best of the rounds lies further back than patience goes."""
        here = self.position
        if patience >= 1:
            return here.epoch - here.peak_epoch >= patience
        return patience > 0 and here.stale >= LOOKS and done - here.peak_done > patience

    def finish_stage(self) -> None:
        """The stage is at its end, without an update."""
        self.position.done = True
        self.save(None)

    def judge(self, score: float, keep: str = "best", passes: int = 0) -> None:
        """Book the monitored bound, and keep the weights that the system has now as the stage wants it.

        Args:
            score: the bound; where it is not finite nothing is kept, NaN is never best.
            passes: epochs since the last one that was booked; 0 = the stage's start.
            keep: "best" = where it is the best of the stage; "last" = always; "snapshots" = always, and of each epoch
                in a file of its own.
        """
        here = self.position
        better = math.isfinite(score) and (here.best is None or score > here.best)
        here.finite += bool(passes) and math.isfinite(score)
        if better:
            here.best, here.best_epoch = score, here.epoch + passes
        here.stale += bool(passes)
        if passes and math.isfinite(score) and (here.peak is None or score > here.peak):
            here.peak, here.peak_epoch, here.stale = score, here.epoch + passes, 0
        if better or (keep != "best" and math.isfinite(score)):
            self.best, self._written = weights.snapshot(self.system), False
        if keep == "snapshots" and passes and math.isfinite(score) and self.writes:
            self._write_snapshot(here.epoch + passes)

    def save(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Write all that is needed to go on from here, then the best model so far."""
        if not self.writes:
            return
        start = time.monotonic()
        optimizer_state = self.optimizer if optimizer is None else optimizer.state_dict()
        states = {each.state_key: found for each in self.callbacks if (found := each.state_dict())}
        saved = Saved(self.position, self.best, dict(self.system.state_dict()), optimizer_state, states)
        files.write_file(self.path / layout.RESUME, encoded(saved))
        self._write_model()
        self.status("running")
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def finish(self, describe: Callable[[], None]) -> None:
        """Leave the folder as that of a finished run; ``describe`` writes what is said of the weights at the end."""
        if self.writes:
            self._write_model()
            describe()
            self.status("finished")
            (self.path / layout.RESUME).unlink(missing_ok=True)

    def stop(self, reason: str) -> None:
        """Leave the folder as that of a run that stopped early, with the best model so far, if the disk takes it."""
        if self.writes:
            with contextlib.suppress(RunError):
                self._write_model()
                self.status("stopped", reason)

    def status(self, state: str, reason: str | None = None) -> None:
        here = self.position
        value = {"state": state, "stage": here.stage, "epoch": here.epoch, "step": here.step, "reason": reason}
        value |= {} if here.best is None else {"best": here.best}
        value |= {"tracked": self.tracked} if self.tracked else {}
        files.write_json(self.path / layout.STATUS, value)

    def _write_snapshot(self, epoch: int) -> None:
        """The weights after this epoch; a run that is taken up again writes the same ones again."""
        assert self.best is not None
        folder = self.path / layout.SNAPSHOTS
        folder.mkdir(exist_ok=True)
        files.write_file(folder / f"{epoch:06d}.safetensors", weights.sealed(self.best))

    def _write_model(self) -> None:
        if self.best is not None and not self._written:
            weights.write_weights(self.path, self.best)
            self._written = True
