"""The metric in which a chain of weights moves: measured before it sets out, and the same from there on."""

from typing import Any

import torch
from torch import Tensor

LEAST = 1.0
"""Of a gradient's size, nats: a weight whose gradient was 0 is not to be thrown anywhere, but to feel its prior."""
SMALL = 0.01
"""The same, relative to that of its parameter tensor."""


def metric_of(state: dict[str, Any], gradient: Tensor, warmup: int) -> Tensor | None:
    """``1 / sqrt(E[g^2])`` of each weight over the first gradients; None as long as these are looked at.

    A chain that moved meanwhile would take steps of any size where one gradient happens to be small, and one that went
    on changing its metric has another stationary law.

    Args:
        state: of the optimizer for this parameter: ``step`` and ``square``.
        gradient: g of this step.
        warmup: how many; 0 = the metric is 1.

    Example:
        >>> state = {}
        >>> [metric_of(state, torch.tensor(g), 2) for g in (2.0, 2.0, 100.0)]
        [None, None, tensor(0.5000)]
    """
    if not warmup:
        return torch.ones_like(gradient)
    state["step"] = step = state.get("step", 0) + 1
    square = state.setdefault("square", torch.zeros_like(gradient))
    if step <= warmup:
        square.add_((gradient.square() - square) / step)
        return None
    least = (SMALL * square.mean().sqrt()).clamp(min=LEAST)
    return torch.maximum(square.sqrt(), least).reciprocal()
