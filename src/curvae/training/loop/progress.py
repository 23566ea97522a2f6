"""The line that shows how training goes."""

import time

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from curvae.training.loop.lightning_module import StageModule

REFRESH = 0.2
"""Seconds between two refreshes."""


class Bar(Callback):
    """Stage, epoch, bound, gradient norm, share of data not ok, skipped steps; on a terminal only.

    Args:
        total: number of batches of the whole stage.
        done: batches of the stage finished by an earlier process.
        console: standard error if not given.
    """

    def __init__(self, total: int, done: int = 0, console: Console | None = None):
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        console = console or Console(stderr=True)
        self._bar = Progress(*columns, TextColumn("{task.fields[numbers]}"), console=console, auto_refresh=False)
        self._task = self._bar.add_task("", total=total, completed=done, numbers="")
        self._waiting = 0
        self._last = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self._waiting += 1
        if time.monotonic() - self._last >= REFRESH:
            self._show(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._bar.stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(pl_module)

    def _show(self, module: LightningModule) -> None:
        assert isinstance(module, StageModule)
        name = f"{module.stage.name} {module.session.position.stage_epoch + 1}/{module.epochs}"
        self._bar.update(self._task, advance=self._waiting, description=name, numbers=numbers(module), refresh=True)
        self._waiting, self._last = 0, time.monotonic()


def numbers(module: StageModule) -> str:
    """The epoch's means so far, in words."""
    means = module.means.read()
    parts = [f"bound {means['bound']:.2f}", f"|grad| {means['grad_norm']:.3g}"]
    parts += [f"not ok {means['not_ok']:.1%}"] if means["not_ok"] > 0 else []
    parts += [f"skipped {module.skipped}"] if module.skipped else []
    return "  ".join(parts)
