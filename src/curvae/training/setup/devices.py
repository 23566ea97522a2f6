"""The machine that a run is on: its device, its processes, how it multiplies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from curvae.training.errors import RunError

DEVICES = ("auto", "cpu", "cuda", "mps")
PROCESSES = max(2, os.cpu_count() or 1)
"""On a CPU: one for each core, or two, which can be tried anywhere."""
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Where the environment says which of several processes this one is, before they have found one another."""


def resolve_device(device: str, count: int = 1) -> str:
    """The device meant by "auto", or the one named, if this machine has it.

    Raises:
        RunError: an unknown name, or a device (or a number of them) that this machine lacks.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    if device not in DEVICES:
        raise RunError(f"device: expected one of {', '.join(DEVICES)}; got {device!r}.")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = next(name for name in ("cuda", "mps", "cpu") if present[name]) if device == "auto" else device
    if not present[chosen]:
        have = ", ".join(name for name, here in present.items() if here)
        raise RunError(f"device: {chosen!r} is not available here; this machine has {have}.")
    limit = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": PROCESSES}[chosen]
    if count > limit:
        raise RunError(f"devices: expected at most {limit} on {chosen}, got {count}.")
    return chosen


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return int(next((os.environ[name] for name in RANKS if name in os.environ), 0)) == 0


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Products of float32 matrices in TF32 for a while, if that is asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
