"""Layers one after the other, as a file can tell of them."""

from collections.abc import Sequence

from torch import nn


class Layers(nn.Sequential):
    """``torch.nn.Sequential`` of a list, whose weights have the same names.

    Args:
        layers: in their order.

    Example:
        >>> list(Layers([nn.Linear(3, 2), nn.ReLU()]).state_dict())
        ['0.weight', '0.bias']
    """

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__(*layers)
