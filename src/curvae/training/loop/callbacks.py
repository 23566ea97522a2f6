"""What this package adds to Lightning's callbacks: saving after all others, Ctrl-C as elsewhere, what is shown."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from curvae.progress import Progress
from curvae.training.loop.checkpoint import Session
from curvae.training.loop.lightning_module import StageModule

THOUSANDTHS = 1000
"""Of a stage, where its end is a time."""


class Saving(Checkpoint):
    """Saves the run after each round: the last of the callbacks, so that what the others have seen is saved too.

    A stage that another callback ends (``trainer.should_stop``) is at its end.
    """

    def __init__(self, session: Session):
        super().__init__()
        self.session = session

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)
        self.session.save_round(trainer.optimizers[0], stop)


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


class ShowProgress(Callback):
    """Shows a stage as it goes: how far it is, bound, gradient norm, share of rows not ok, skipped steps.

    Args:
        progress: where it is shown.
        title: the stage.
    """

    def __init__(self, progress: Progress, title: str):
        self.progress = progress
        self.title = title

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if self.progress.due():
            self._show(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._show(pl_module)

    def _show(self, module: LightningModule) -> None:
        assert isinstance(module, StageModule)
        self.progress.show(shown_of(module)[1], f"{self.title}  {standing(module)}", means_in_words(module))


def shown_of(module: StageModule) -> tuple[int, int]:
    """Steps of the bar in all, and those done."""
    amount = int(module.length.amount)
    total = {"epochs": amount * module.updates, "max_updates": amount, "minutes": THOUSANDTHS}[module.length.unit]
    return total, round(module.done * total)


def standing(module: StageModule) -> str:
    """How far a stage is, in its own unit."""
    here, amount = module.session.position, module.length.amount
    match module.length.unit:
        case "epochs":
            return f"epoch {here.stage_epoch + 1}/{amount:.0f}"
        case "max_updates":
            return f"update {here.stage_step:,}/{amount:,.0f}"
        case _:
            return f"{module.done * amount:.2f}/{amount:.3g} min"


def means_in_words(module: StageModule) -> str:
    """The round's means so far, in words."""
    means = module.means.own.read()
    parts = [f"bound {means['bound']:.2f}", f"|grad| {means['grad_norm']:.3g}"]
    parts += [f"not ok {means['not_ok']:.1%}"] if means["not_ok"] > 0 else []
    parts += [f"skipped {module.skipped}"] if module.skipped else []
    return "  ".join(parts)
