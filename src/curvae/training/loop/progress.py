"""What is shown of training while it goes on."""

from lightning import Callback, LightningModule, Trainer

from curvae.progress import Progress
from curvae.training.loop.lightning_module import StageModule


class Shown(Callback):
    """Shows a stage as it goes: epoch, bound, gradient norm, share of rows not ok, skipped steps.

    Args:
        progress: where it is shown.
        title: the stage.
        done: batches of the stage finished by an earlier process.
    """

    def __init__(self, progress: Progress, title: str, done: int = 0):
        self.progress = progress
        self.title = title
        self.done = done

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.done += 1
        if self.progress.due():
            self._show(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(pl_module)

    def _show(self, module: LightningModule) -> None:
        assert isinstance(module, StageModule)
        epoch = f"epoch {module.session.position.stage_epoch + 1}/{module.epochs}"
        self.progress.show(self.done, f"{self.title}  {epoch}", numbers(module))


def numbers(module: StageModule) -> str:
    """The epoch's means so far, in words."""
    means = module.means.read()
    parts = [f"bound {means['bound']:.2f}", f"|grad| {means['grad_norm']:.3g}"]
    parts += [f"not ok {means['not_ok']:.1%}"] if means["not_ok"] > 0 else []
    parts += [f"skipped {module.skipped}"] if module.skipped else []
    return "  ".join(parts)
