"""Where training stands, and how it goes on from there after it was cut off."""

import contextlib
import io
import math
import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curvae.training.errors import RunError
from curvae.training.loop.inference_budget import Standing
from curvae.training.run import files, weights
from curvae.training.run.metrics import Log, Row

SAVE_EVERY = 1.0
"""Seconds between two saves at least; a run that is killed loses no more than this and the epoch at hand."""
SAVE_SHARE = 0.05
"""Share of the time that saving may take, where that is more."""


@dataclass
class Position:
    """Where training stands, in numbers."""

    stage: int = 0
    begun: bool = False
    """The stage has been prepared."""
    done: bool = False
    """The stage has come to its end."""
    stage_epoch: int = 0
    """Epochs finished in this stage."""
    epoch: int = 0
    """Epochs finished in all."""
    step: int = 0
    """Optimizer steps tried in all, skipped ones included."""
    seconds: float = 0.0
    in_a_row: int = 0
    """Steps skipped since the last good one."""
    best: float | None = None
    """The best monitored bound of this stage."""
    stale: int = 0
    """Epochs since then."""
    budget: dict[str, Any] = field(default_factory=lambda: asdict(Standing()))
    """Level of inference of this stage, and what it was chosen by."""


class Session:
    """The state of a run across its stages: position, best weights, what is on disk.

    Args:
        system: what is trained.
        path: the run folder.
        log: where the rows of metrics go.
        writes: whether this process writes files; with several, one does.
    """

    def __init__(self, system: nn.Module, path: Path, log: Log, writes: bool = True):
        self.system = system
        self.path = path
        self.log = log
        self.writes = writes
        self.position = Position()
        self.best: dict[str, Tensor] | None = None
        self.optimizer: Mapping[str, Any] | None = None
        self._since = self._saved = time.monotonic()
        self._cost = 0.0

    def resume(self) -> None:
        """Take up what an earlier process saved, if it did.

        Raises:
            RunError: the file is damaged, or of another system.
        """
        path = self.path / "resume.pt"
        if not path.exists():
            return
        saved = _read(path)
        self.position = Position(**saved["position"])
        self.best, self.optimizer = saved["best"], saved["optimizer"]
        weights.restore(self.system, saved["model"], path)
        self._since = time.monotonic() - self.position.seconds
        if self.writes:
            self.log.keep(self.position.epoch)

    def begin(self) -> None:
        """The stage has been prepared: what comes now starts from here."""
        self.position.begun = True
        self.save(None)

    def next_stage(self) -> None:
        """Leave the stage for the next, with its best weights."""
        here = self.position
        self.position = Position(
            here.stage + 1, epoch=here.epoch, step=here.step, seconds=here.seconds, in_a_row=here.in_a_row
        )
        self.optimizer = None

    def take_best(self) -> None:
        """Give the system the best weights of the stage."""
        if self.best is not None:
            weights.restore(self.system, self.best, self.path)

    def finish_epoch(self, row: Row, optimizer: torch.optim.Optimizer, last: bool, patience: int | None):
        """Book an epoch that has been judged: is it the last, write what is due."""
        here = self.position
        here.epoch, here.stage_epoch = here.epoch + 1, here.stage_epoch + 1
        here.seconds = time.monotonic() - self._since
        here.done = last or (patience is not None and here.stale >= patience)
        if self.writes:
            self.log.write(row._replace(epoch=here.epoch, step=here.step, seconds=round(here.seconds, 3)))
        if here.done or time.monotonic() - self._saved >= max(SAVE_EVERY, self._cost / SAVE_SHARE):
            self.save(optimizer)

    def finish_stage(self) -> None:
        """The stage is at its end, without an epoch."""
        self.position.done = True
        self.save(None)

    def judge(self, score: float, keep: str = "best") -> None:
        """Book the monitored bound, and keep the weights that the system has now as the stage wants it.

        Args:
            score: the bound.
            keep: "best" = where it is the best of the stage; "last" = always; "snapshots" = always, and of each epoch
                in a file of its own.
        """
        here = self.position
        better = here.best is None or math.isnan(here.best) or score > here.best
        here.stale = 0 if better else here.stale + 1
        if better:
            here.best = score
        if better or keep != "best":
            self.best = weights.snapshot(self.system)
        if keep == "snapshots" and self.writes:
            self._write_snapshot()

    def save(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Write all that is needed to go on from here, then the best model so far."""
        if not self.writes:
            return
        start = time.monotonic()
        content = {"format": files.FORMAT, "position": asdict(self.position), "best": self.best}
        content |= {"model": self.system.state_dict(), "optimizer": optimizer and optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        files.write(self.path / "resume.pt", buffer.getbuffer())
        self._write_model()
        self.status("running")
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def finish(self) -> None:
        """Leave the folder as that of a finished run."""
        if self.writes:
            self._write_model()
            self.status("finished")
            (self.path / "resume.pt").unlink(missing_ok=True)

    def stop(self, reason: str) -> None:
        """Leave the folder as that of a run that stopped early, with the best model so far, if the disk takes it."""
        if self.writes:
            with contextlib.suppress(RunError):
                self._write_model()
                self.status("stopped", reason)

    def status(self, state: str, reason: str | None = None) -> None:
        here = self.position
        value = {"state": state, "stage": here.stage, "epoch": here.epoch, "step": here.step, "reason": reason}
        files.write_json(self.path / "status.json", value)

    def _write_snapshot(self) -> None:
        """The weights of this epoch; a run that is taken up again writes the same ones again."""
        assert self.best is not None
        folder = self.path / "snapshots"
        folder.mkdir(exist_ok=True)
        files.write(folder / f"{self.position.epoch + 1:06d}.safetensors", weights.encode(self.best))

    def _write_model(self) -> None:
        if self.best is not None:
            files.write(self.path / "model.safetensors", weights.encode(self.best))


def _read(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path}: cannot be read ({first}); delete it to start this run anew.") from None
    files.check_format(path, saved)
    return saved
