"""The stages of a run, one after the other, each in a Lightning Trainer of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning import Callback, seed_everything
from lightning.pytorch.loggers import Logger
from torch import nn

from curvae.data import Data
from curvae.progress import on_terminal, progress, say
from curvae.systems import Stage, System
from curvae.training.errors import DivergedError
from curvae.training.loop.callbacks import Interrupt, Saving, ShowProgress, shown_of
from curvae.training.loop.checkpoint import Session
from curvae.training.loop.lightning_module import StageModule
from curvae.training.loop.nonfinite import faulty_module
from curvae.training.loop.trainer import quiet, trainer
from curvae.training.setup.devices import matmul_precision
from curvae.training.setup.length import Length, lengths
from curvae.training.setup.settings import CompleteSettings, derive

PREPARE = 4
"""Stream of random numbers."""


class Training:
    """The stages of a run, one after the other."""

    def __init__(
        self,
        system: System,
        data: Data,
        settings: CompleteSettings,
        session: Session,
        shown: bool,
        logger: Logger | None,
    ):
        self.system = system
        self.data = data
        self.settings = settings
        self.session = session
        self.shown = shown
        self.logger = logger
        self.stages = system.stages()
        self.trained = system.trained
        self.lengths = lengths(settings.length, self.stages)

    def run(self) -> None:
        """Train what is left to train."""
        while True:
            number = self.session.position.stage
            self._train(self.stages[number], self.lengths[number])
            self._check(self.stages[number])
            self.session.take_best()
            here = self.session.position
            self._say(f"ended after {here.stage_epoch:,} epochs, {here.stage_step:,} updates, {self._best()}")
            if number + 1 == len(self.stages):
                break
            self.session.next_stage(self.stages[number + 1].joins(self.stages[number]))
        self.system.eval()
        self.system.trained = True
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
        whose = "validation" if self.data.held_out else "in-sample"
        return f"best {whose} {what} {here.best:.4f} nats after epoch {here.best_epoch}"

    def _check(self, stage: Stage) -> None:
        """
        Raises:
            DivergedError: the stage has trained nothing: a run does not finish so.
        """
        if failure := self.session.failure:
            part = faulty_module(self.system.eval(), self.data.validation)
            why = f", for {part} is not finite" if part else ""
            raise DivergedError(
                f"training stopped after stage {stage.name!r}: {failure}{why}. Lower the learning rate, or check the "
                "data's scale and the networks."
            )

    def _train(self, stage: Stage, length: Length) -> None:
        position = self.session.position
        self._say(str(length) + (f", {position.stage_step:,} updates of them done" if position.stage_step else ""))
        if not position.begun:
            seed_everything(derive(self.settings.seed, PREPARE, position.stage), verbose=False)
            start = () if self.trained or stage.start is None else (stage.start,)
            known = self.data.sample
            for prepare in (*start, *stage.prepare):
                prepare(self.system, known)
            self.session.begin()
        part = part_of_cycle(self.stages, position.stage)
        module = StageModule(self.system, stage, length, part, self.data, self.settings, self.session)
        if not position.done and length.amount:
            with only(self.system, stage):
                self._fit(module)
        elif not position.done:
            self._finish(module)

    def _fit(self, module: StageModule) -> None:
        fresh, interrupt = self.session.position.best is None, Interrupt()
        self.system.train()
        with quiet(), matmul_precision(self.settings.precision), interrupt.kept(), self._showing(module) as shown:
            looking = [interrupt, *shown, *self.session.callbacks, Saving(self.session)]
            trainer(self.settings, looking, self.session, self.logger, judged=fresh).fit(module)

    @contextmanager
    def _showing(self, module: StageModule) -> Iterator[list[Callback]]:
        if not self.shown:
            yield []
            return
        with progress(*shown_of(module)) as work:
            yield [ShowProgress(work, self._title())]

    def _finish(self, module: StageModule) -> None:
        """A stage without an update: what it prepared and finishes is judged once, and kept."""
        with quiet(), matmul_precision(self.settings.precision):
            trainer(self.settings, [], self.session).validate(module, verbose=False)
        module.finish_stage()


def part_of_cycle(stages: Sequence[Stage], number: int) -> tuple[float, float]:
    """Which share of its cycle of learning rates comes before a stage, and which is its own.

    Example:
        >>> stages = Stage("a", share=3), Stage("b", share=1, joined=True), Stage("c")
        >>> [part_of_cycle(stages, number) for number in range(3)]
        [(0.0, 0.75), (0.75, 0.25), (0.0, 1.0)]
    """
    first = max(each for each in range(number + 1) if each == 0 or not stages[each].joined)
    after = [each for each in range(number + 1, len(stages)) if not stages[each].joined]
    shares = [each.share for each in stages[first : min(after, default=len(stages))]]
    total = sum(shares) or 1.0
    return sum(shares[: number - first]) / total, shares[number - first] / total


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
