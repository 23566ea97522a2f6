"""The stages of a run, one after the other, each in a Lightning Trainer of its own."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import nn

from curvae.data import Data
from curvae.progress import on_terminal, progress, say
from curvae.systems import Stage, System
from curvae.training.devices import products
from curvae.training.errors import RunError
from curvae.training.loop.checkpoint import Session
from curvae.training.loop.lightning_module import StageModule
from curvae.training.loop.loader import sizes
from curvae.training.loop.nonfinite import faulty_module
from curvae.training.loop.progress import Shown
from curvae.training.loop.trainer import quiet, trainer
from curvae.training.settings import Settings, derive, divide

PREPARE = 4
"""Stream of random numbers."""


class Training:
    """The stages of a run, one after the other."""

    def __init__(self, system: System, data: Data, settings: Settings, session: Session, shown: bool):
        self.system = system
        self.data = data
        self.settings = settings
        self.session = session
        self.shown = shown
        self.stages = system.stages()
        self.epochs = divide(settings.epochs, [stage.share for stage in self.stages])

    def run(self) -> None:
        """Train what is left to train."""
        while True:
            number = self.session.position.stage
            self._train(self.stages[number], self.epochs[number])
            self._check(self.stages[number])
            self.session.take_best()
            self._say(f"ended after {self.session.position.stage_epoch} epochs, {self._best()}")
            if number + 1 == len(self.stages):
                break
            self.session.next_stage()
        self.system.eval()
        if self.shown:
            say(f"{self._best()}: {self.session.path}")

    def _say(self, line: str) -> None:
        """What the bar shows on a terminal is said where there is none."""
        if self.shown and not on_terminal():
            say(f"{self._title()}: {line}")

    def _title(self) -> str:
        number = self.session.position.stage
        count = f" {number + 1}/{len(self.stages)}" if len(self.stages) > 1 else ""
        return f"stage{count} {self.stages[number].name}"

    def _best(self) -> str:
        """The best of this stage, as it was monitored."""
        here = self.session.position
        if here.best is None:
            return "never judged"
        what = {"value": "bound", "surrogate": "surrogate"}[self.stages[here.stage].monitor]
        return f"best validation {what} {here.best:.4f} nats after epoch {here.epoch - here.stale}"

    def _check(self, stage: Stage) -> None:
        """
        Raises:
            RunError: the stage has trained nothing: a run does not finish so.
        """
        if failure := self.session.failure:
            part = faulty_module(self.system.eval(), self.data.validation)
            why = f", for {part} is not finite" if part else ""
            raise RunError(
                f"training stopped after stage {stage.name!r}: {failure}{why}. Lower the learning rate, or check the "
                "data's scale and the networks."
            )

    def _train(self, stage: Stage, epochs: int) -> None:
        position = self.session.position
        self._say(f"{epochs} epochs" + (f", {position.stage_epoch} of them done" if position.stage_epoch else ""))
        if not position.begun:
            seed_everything(derive(self.settings.seed, PREPARE, position.stage), verbose=False)
            for prepare in stage.prepare:
                prepare(self.system, self.data)
            self.session.begin()
        module = StageModule(self.system, stage, epochs, self.data, self.settings, self.session)
        if not position.done and epochs:
            with only(self.system, stage):
                self._fit(module)
        elif not position.done:
            self._finish(module)

    def _fit(self, module: StageModule) -> None:
        done, interrupt = self.session.position.stage_epoch, Interrupt()
        self.system.train()
        with quiet(), products(self.settings.precision), interrupt.kept(), self._showing(module.epochs, done) as shown:
            trainer(self.settings, module.epochs - done, [interrupt, *shown]).fit(module)

    @contextmanager
    def _showing(self, epochs: int, done: int) -> Iterator[list[Callback]]:
        if not self.shown:
            yield []
            return
        batches = len(sizes(len(self.data.train), self.settings.batch_size))
        with progress(epochs * batches, done * batches) as work:
            yield [Shown(work, self._title(), done * batches)]

    def _finish(self, module: StageModule) -> None:
        """A stage without an epoch: what it prepared and finishes is judged once, and kept."""
        with quiet(), products(self.settings.precision):
            trainer(self.settings, 1, []).validate(module, verbose=False)
        module.finish_stage()


@contextmanager
def only(system: nn.Module, stage: Stage) -> Iterator[None]:
    """Freeze all parameters but those whose name starts with one of the stage's prefixes, for a while.

    Raises:
        ValueError: no parameter has such a name.
    """
    before = {parameter: parameter.requires_grad for parameter in system.parameters()}
    for name, parameter in system.named_parameters():
        parameter.requires_grad_(before[parameter] and name.startswith(stage.trained))
        parameter.grad = None
    try:
        if not any(parameter.requires_grad for parameter in before):
            raise ValueError(f"Stage {stage.name!r}: trained={stage.trained} matches no parameter of the system.")
        yield
    finally:
        for parameter, learns in before.items():
            parameter.requires_grad_(learns)
            parameter.grad = None


class Interrupt(Callback):
    """Lightning turns Ctrl-C into an exit and stays deaf to the next one; this gives both back."""

    def __init__(self):
        self._seen = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._seen = isinstance(exception, KeyboardInterrupt)

    @contextmanager
    def kept(self) -> Iterator[None]:
        handler = signal.getsignal(signal.SIGINT)
        try:
            yield
        except SystemExit:
            if not self._seen:
                raise
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
