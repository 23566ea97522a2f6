"""What this package adds to Lightning's callbacks: saving after all others, and Ctrl-C as it is elsewhere."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from curvae.training.loop.checkpoint import Session


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
