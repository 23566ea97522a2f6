"""Fully connected networks."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

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
        front: what comes first, of as many values: how positive numbers are seen, say.

    Raises:
        ValueError: there is no memory for the weights.

    Example:
        >>> import torch
        >>> MLP(12, [32, 32], 4)(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: type[nn.Module] = nn.ReLU,
        front: nn.Module | None = None,
    ):
        widths = [inputs, *hidden, outputs]
        memory.require_memory(sum(before * after for before, after in pairwise(widths)), "MLP")
        gain = 2 ** (0.5 * len(hidden) / (len(hidden) + 1))
        layers: list[nn.Module] = [nn.Flatten()] if front is None else [nn.Flatten(), front]
        for fan_in, fan_out in pairwise(widths):
            layer = nn.Linear(fan_in, fan_out)
            nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_out))
            layers += [layer, activation()]
        super().__init__(*layers[:-1])


class Front(nn.Module):
    """What data go through before the first layer of an encoder: rows (B, *event) to rows of numbers of like size."""


class Logarithm(Front):
    """Positive numbers and counts as a network sees them: ``log(x + shift)``, and 0 where x + shift is not positive.

    A value that is missing stands as 0; with a shift of 1, log(1 + x) of counts is 0 there, too.

    Example:
        >>> import torch
        >>> Logarithm(1.0)(torch.tensor([0.0, 1.0])).tolist()
        [0.0, 0.6931471824645996]
    """

    def __init__(self, shift: float = 0.0):
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.shift
        return torch.where(x > 0, x, torch.ones_like(x)).log()

    def extra_repr(self) -> str:
        return f"shift={self.shift}"


class ColumnFront(Front):
    """Columns of different kinds as a network sees them: counts and positive numbers by logarithms, categories one-hot.

    Args:
        groups: of each kind, real, positive, count, binary, ordinal or category, and number of categories the columns.

    Example:
        >>> import torch
        >>> ColumnFront({("real", 2): [0], ("category", 3): [1]})(torch.tensor([[0.5, 2.0]])).tolist()
        [[0.5, 0.0, 0.0, 1.0]]
    """

    def __init__(self, groups: Mapping[tuple[str, int], Sequence[int]]):
        super().__init__()
        self.groups = [(kind, count, list(columns)) for (kind, count), columns in groups.items()]
        self.logarithms = nn.ModuleDict({"positive": Logarithm(), "count": Logarithm(1.0)})
        self.size = sum(len(columns) * (count if kind == "category" else 1) for kind, count, columns in self.groups)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._seen(kind, count, x[..., columns]) for kind, count, columns in self.groups], -1)

    def _seen(self, kind: str, count: int, x: Tensor) -> Tensor:
        if kind == "category":
            return nn.functional.one_hot(x.long(), count).flatten(-2).to(x.dtype)
        return self.logarithms[kind](x) if kind in self.logarithms else x
