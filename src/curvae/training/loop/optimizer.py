"""The optimizer of stages that bring none of their own."""

from collections.abc import Iterable

import torch
from torch import nn

from curvae.training.setup.settings import Chosen


def adam(parameters: Iterable[nn.Parameter], settings: Chosen, device: torch.device) -> torch.optim.Optimizer:
    """Adam with the run's learning rate and, on matrices alone, its decoupled weight decay."""
    matrices, others = [], []
    for each in parameters:
        (matrices if each.ndim >= 2 else others).append(each)
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others}]
    fused = device.type in ("cpu", "cuda")
    given = [each for each in groups if each["params"]]
    return torch.optim.AdamW(given, settings.learning_rate, fused=fused, weight_decay=0.0)
