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

    @property
    def owners(self) -> list[int]:
        """The column of each number that comes out."""
        times = [(column, count if kind == "category" else 1) for kind, count, some in self.groups for column in some]
        return [column for column, repeated in times for _ in range(repeated)]

    def _seen(self, kind: str, count: int, x: Tensor) -> Tensor:
        if kind == "category":
            return nn.functional.one_hot(x.long(), count).flatten(-2).to(x.dtype)
        return self.logarithms[kind](x) if kind in self.logarithms else x


class FrontWithGaps(Front):
    """Data with holes as a network sees them: what is missing is filled in, and which it is may stand beside the rest.

    Takes values (B, E) alone, or with E numbers behind them that are 1 where a value is missing and 0 elsewhere. Where
    nothing is missing these say nothing, and what comes out first is what ``front`` gives.

    Args:
        size: E, number of values of an example.
        front: what values go through first.
        learned: what is filled in, one number for each that ``front`` gives, starts at 0 and is learned; else it is 0.
        indicators: whether the E numbers come out behind the others.

    Example:
        >>> import torch
        >>> FrontWithGaps(2)(torch.tensor([[0.5, 7.0, 0.0, 1.0]])).tolist()
        [[0.5, 0.0, 0.0, 1.0]]
    """

    fill: Tensor
    owners: Tensor

    def __init__(self, size: int, front: nn.Module | None = None, learned: bool = False, indicators: bool = True):
        super().__init__()
        self.values, self.front = size, front or nn.Identity()
        owners = front.owners if isinstance(front, ColumnFront) else [*range(size)]
        self.size = len(owners) + size * indicators
        self.indicators = indicators
        self.register_buffer("owners", torch.tensor(owners), persistent=False)
        if learned:
            self.fill = nn.Parameter(torch.zeros(len(owners)))
        else:
            self.register_buffer("fill", torch.zeros(len(owners)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        values, missing = x.flatten(1).tensor_split([self.values], dim=1)
        seen = self.front(values)
        if not missing.shape[1]:
            return seen
        seen = torch.where(missing[:, self.owners] > 0, self.fill, seen)
        return torch.cat([seen, missing], 1) if self.indicators else seen

    def extra_repr(self) -> str:
        return f"{self.values}, learned={isinstance(self.fill, nn.Parameter)}, indicators={self.indicators}"
