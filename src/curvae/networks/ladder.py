"""Networks of a ladder: latents of several levels, each read from and entered at a depth of its own."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.networks.mlp import MLP
from curvae.networks.top_down_decoder import TopDownDecoder


class LadderEncoder(nn.Module):
    """``h_l = g_l(h_{l-1})`` from ``h_0 = x``, and ``(m_l, log s_l) = a_l(h_l)``: deeper latents from deeper features.

    It gives the means of all levels, then their log-scales, the deepest level first: 2 D values, as
    :class:`curvae.inference.AmortizedGaussian` takes them.

    Args:
        steps: the L modules g, in the order of the data's way up; convolutions, say.
        heads: the L modules a, in the same order, each from h_l to ``2 size`` values.

    Raises:
        ValueError: not one head for each of 1 or more steps.

    Example:
        >>> conv = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU())
        >>> deep = nn.Sequential(nn.Flatten(), nn.Linear(4 * 9, 16), nn.ReLU())
        >>> heads = [nn.Sequential(nn.Flatten(), nn.Linear(4 * 9, 2 * 2)), nn.Linear(16, 2 * 3)]
        >>> LadderEncoder([conv, deep], heads)(torch.zeros(5, 1, 8, 8)).shape   # 3 deep latents, then 2 shallow ones
        torch.Size([5, 10])
    """

    def __init__(self, steps: Sequence[nn.Module], heads: Sequence[nn.Module]):
        super().__init__()
        if not steps or len(steps) != len(heads):
            raise ValueError(
                f"LadderEncoder: expects a head for each of 1 or more steps; got {len(steps)} and {len(heads)}."
            )
        self.steps = nn.ModuleList(steps)
        self.heads = nn.ModuleList(heads)

    @classmethod
    def of(
        cls, inputs: int, hidden: int, depth: int, blocks: tuple[int, ...], front: nn.Module | None = None
    ) -> "LadderEncoder":
        """Steps of ``depth`` hidden ReLU layers; blocks are the sizes of the levels, the deepest first.

        The way to the deepest level is one :class:`MLP`, and so is the whole where there is but one level.
        """
        way = MLP(inputs, [hidden] * (depth * len(blocks)), 2 * blocks[0], front=front)
        steps = _pieces(way, depth, len(blocks))
        return cls(steps, [*(MLP(hidden, [], 2 * size) for size in blocks[:0:-1]), way[-1]])

    def forward(self, x: Tensor) -> Float[Tensor, "N Q"]:
        h, found = x, list[Tensor]()
        for step, head in zip(self.steps, self.heads, strict=True):
            h = step(h)
            found.insert(0, head(h))
        halves = zip(*(each.chunk(2, -1) for each in found), strict=True)
        return torch.cat([torch.cat(half, -1) for half in halves], -1)


class Gated(nn.Module):
    """``gate * network(z)``, with a learned gate for each unit.

    Args:
        network: from (N, d) to (N, width).
        width: number of units.
        start: of every gate.

    Example:
        >>> gated = Gated(nn.Linear(2, 8), 8)
        >>> torch.equal(gated(torch.ones(5, 2)), 0.1 * gated.network(torch.ones(5, 2)))
        True
    """

    def __init__(self, network: nn.Module, width: int, start: float = 0.1):
        super().__init__()
        self.network = network
        self.gate = nn.Parameter(torch.full((width,), start))

    def forward(self, z: Float[Tensor, "N _"]) -> Tensor:
        return self.gate * self.network(z)


def ladder_decoder(blocks: tuple[int, ...], hidden: int, depth: int, outputs: int) -> TopDownDecoder:
    """``h_L = f_L(z_L)``, then ``h_l = t_l(h_{l+1}) + gate_l * f_l(z_l)``, ``eta = A h_1``; the deepest block first.

    All f and t are ``depth`` hidden ReLU layers, and the way from the deepest level is one :class:`MLP`. Gates start at
    0.1; where one is 0, the output does not depend on its level.

    Raises:
        ValueError: no block, or a size below 1.

    Example:
        >>> decoder = ladder_decoder((2, 2), hidden=16, depth=1, outputs=10)
        >>> decoder(torch.zeros(5, 4)).shape
        torch.Size([5, 10])
    """
    check_least("ladder_decoder", 1, levels=len(blocks), hidden=hidden, depth=depth, size=min(blocks, default=1))
    way = MLP(blocks[0], [hidden] * (depth * len(blocks)), outputs)
    first, *between = _pieces(way, depth, len(blocks))
    entries = [Gated(_hidden(size, hidden, depth), hidden) for size in blocks[1:]]
    return TopDownDecoder([first, *entries], [*between, way[-1]], blocks)


def _hidden(inputs: int, hidden: int, depth: int) -> nn.Sequential:
    """``depth`` hidden ReLU layers, and nothing behind them."""
    return nn.Sequential(*MLP(inputs, [hidden] * (depth - 1), hidden), nn.ReLU())


def _pieces(way: MLP, depth: int, count: int) -> list[nn.Sequential]:
    """The hidden layers of a network in so many equal pieces; what comes before them is of the first."""
    layers = list(way)[:-1]
    ends = [0, *(len(layers) - 2 * depth * (count - piece) for piece in range(1, count + 1))]
    return [nn.Sequential(*layers[low:high]) for low, high in pairwise(ends)]
