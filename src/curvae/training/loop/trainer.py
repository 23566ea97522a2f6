"""Lightning's Trainer as this package uses it: no checkpoints, logs, progress or samplers of its own."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from curvae.training.devices import choose
from curvae.training.settings import Settings


def trainer(settings: Settings, callbacks: list[Callback], judged: bool = False) -> Trainer:
    """A Trainer for the run's device, precision and number of processes, which goes on until it is told to stop.

    Args:
        settings: of the run.
        callbacks: what looks on.
        judged: whether there is a pass over the validation data before the first step.
    """
    device = choose(settings.device, settings.devices)
    backend = "nccl" if device == "cuda" else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True, broadcast_buffers=False)
    return Trainer(
        accelerator=device,
        devices=settings.devices,
        strategy=strategy if settings.devices > 1 else "auto",
        precision="32-true" if settings.precision == "tf32" else settings.precision,  # pyright: ignore[reportArgumentType]
        max_epochs=-1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=-1 if judged else 0,
        use_distributed_sampler=False,
    )


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
