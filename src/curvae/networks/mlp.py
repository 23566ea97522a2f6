"""Fully connected networks."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from curvae import memory


class MLP(nn.Sequential):
    """``inputs -> hidden[0] -> ... -> outputs``, an activation between layers, none at the end; flattens its input.

    Weights start at ``N(0, g^2 / fan_out)`` with ``g^2 = 2^(d / (d + 1))`` for d hidden layers: each ReLU halves the
    variance of what is sent back, and the d + 1 layers share the compensation evenly (VLAE's supplement).

    Args:
        inputs: size of one example, flat.
        hidden: widths of the hidden layers; empty for one linear layer.
        outputs: size of the output.
        activation: class of the activation.

    Raises:
        ValueError: there is no memory for the weights.

    Example:
        >>> import torch
        >>> MLP(12, [32, 32], 4)(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 4])
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module] = nn.ReLU):
        widths = [inputs, *hidden, outputs]
        memory.require_memory(sum(before * after for before, after in pairwise(widths)), "MLP")
        gain = 2 ** (0.5 * len(hidden) / (len(hidden) + 1))
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layer = nn.Linear(fan_in, fan_out)
            nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_out))
            layers += [layer, activation()]
        super().__init__(*layers[:-1])
