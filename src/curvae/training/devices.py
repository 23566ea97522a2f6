"""Choosing the machine's device, and Lightning's Trainer for it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy

from curvae.training.errors import RunError
from curvae.training.settings import Settings

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose(device: str, count: int = 1) -> str:
    """The device meant by "auto", or the one named, if this machine has it.

    Raises:
        RunError: an unknown name, or a device (or a number of them) that this machine lacks.

    Example:
        >>> choose("cpu")
        'cpu'
    """
    if device not in DEVICES:
        raise RunError(f"device: expected one of {', '.join(DEVICES)}; got {device!r}.")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = next(name for name in ("cuda", "mps", "cpu") if present[name]) if device == "auto" else device
    if not present[chosen]:
        have = ", ".join(name for name, here in present.items() if here)
        raise RunError(f"device: {chosen!r} is not available here; this machine has {have}.")
    limit = {"cuda": torch.cuda.device_count(), "mps": 1}.get(chosen, count)
    if count > limit:
        raise RunError(f"devices: expected at most {limit} on {chosen}, got {count}.")
    return chosen


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return (rank_zero_only.rank or 0) == 0


def trainer(settings: Settings, epochs: int, callbacks: list[Callback]) -> Trainer:
    """Lightning's Trainer without what this package does itself: checkpoints, logs, progress, samplers."""
    device = choose(settings.device, settings.devices)
    backend = "nccl" if device == "cuda" else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True, broadcast_buffers=False)
    return Trainer(
        accelerator=device,
        devices=settings.devices,
        strategy=strategy if settings.devices > 1 else "auto",
        precision="32-true" if settings.precision == "tf32" else settings.precision,  # pyright: ignore[reportArgumentType]
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Products of float32 matrices in TF32 for a while, if that is asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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
