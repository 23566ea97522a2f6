"""Where a system is, batches brought there, and a system that is asked without being changed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from curvae.typing import Batch


def device_and_dtype(system: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating type of a system, by its first parameter or buffer."""
    for tensor in (*system.parameters(), *system.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def batch_to_system(system: nn.Module, batch: Batch) -> Batch:
    """A batch where the system is, in its floating type.

    Example:
        >>> batch_to_system(nn.Linear(2, 2).double(), Batch.of(torch.zeros(3, 2))).x.dtype
        torch.float64
    """
    device, dtype = device_and_dtype(system)
    x = batch.x.to(device, dtype) if batch.x.is_floating_point() else batch.x.to(device)
    mask, label = (None if part is None else part.to(device) for part in (batch.mask, batch.label))
    context = None if batch.context is None else batch.context.map(lambda part: part.to(device, dtype))
    return Batch(x, batch.index.to(device), mask, label, context)


@contextmanager
def evaluating(system: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients; the modes of its modules are afterwards as they were."""
    training = [module for module in system.modules() if module.training]
    system.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
