"""Lightning's Trainer as this package uses it, without its checkpoints, logs, progress and samplers; and Adam."""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from curvae.training.loop.checkpoint import Session
from curvae.training.setup.devices import resolve_device
from curvae.training.setup.settings import CompleteSettings, TrainingSettings


def trainer(
    settings: TrainingSettings,
    callbacks: list[Callback],
    session: Session,
    logger: Logger | None = None,
    judged: bool = False,
) -> Trainer:
    """A Trainer for the run's device, precision and number of processes, which goes on until it is told to stop.

    It counts epochs and steps on from where the run stands.

    Args:
        settings: of the run.
        callbacks: what looks on.
        session: where the run stands.
        logger: gets what the modules log.
        judged: whether there is a pass over the validation data before the first step.
    """
    device = resolve_device(settings.device, settings.devices)
    backend = "nccl" if device == "cuda" else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True, broadcast_buffers=False)
    made = Trainer(
        accelerator=device,
        devices=settings.devices,
        strategy=strategy if settings.devices > 1 else "auto",
        precision="32-true" if settings.precision == "tf32" else settings.precision,  # pyright: ignore[reportArgumentType]
        max_epochs=-1,
        callbacks=callbacks,
        logger=logger or False,
        default_root_dir=session.path,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
        enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=-1 if judged else 0,
        use_distributed_sampler=False,
    )
    made.fit_loop.epoch_progress.current.processed = session.position.rounds  # pyright: ignore[reportAttributeAccessIssue]
    steps = made.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = session.position.step
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its tips, and without warnings about what is meant to be so."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def adam(parameters: Iterable[nn.Parameter], settings: CompleteSettings, device: torch.device) -> torch.optim.Optimizer:
    """Adam with the run's learning rate and, on matrices alone, its decoupled weight decay."""
    matrices, others = [], []
    for each in parameters:
        (matrices if each.ndim >= 2 else others).append(each)
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others}]
    fused = device.type in ("cpu", "cuda")
    given = [each for each in groups if each["params"]]
    return torch.optim.AdamW(given, settings.learning_rate, fused=fused, weight_decay=0.0)
