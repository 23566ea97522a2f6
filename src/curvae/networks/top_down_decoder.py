"""A decoder of several stochastic layers: noise enters at each, on the way down to the data."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae import memory
from curvae.networks.mlp import MLP


class TopDownDecoder(nn.Module):
    """``h_1 = G_1 z_1``, then ``h_k = T_{k-1}(h_{k-1}) + G_k z_k``, at the end ``eta = T_L(h_L)``; the top layer first.

    ``z = (z_1, ..., z_L)`` is the noise of all L layers, independent a priori, so the prior is a standard normal over
    all of them; the activities h are not independent.

    Args:
        noise: the L modules G, each from the noise of its layer (N, size) to the layer (N, width).
        maps: the L modules T, each from one layer to the next, the last one to the likelihood's parameters.
        blocks: sizes of the layers of z, top first.

    Raises:
        ValueError: not one module of each kind for each block.

    Example:
        >>> import torch
        >>> TopDownDecoder.of((2, 3), [16], 10)(torch.zeros(5, 2 + 3)).shape
        torch.Size([5, 10])
    """

    def __init__(self, noise: Sequence[nn.Module], maps: Sequence[nn.Module], blocks: tuple[int, ...]):
        super().__init__()
        if not blocks or not len(noise) == len(maps) == len(blocks):
            raise ValueError(
                f"TopDownDecoder: expects one noise module and one map for each of 1 or more blocks; got "
                f"{len(noise)} and {len(maps)} for blocks={blocks}."
            )
        self.noise = nn.ModuleList(noise)
        self.maps = nn.ModuleList(maps)
        self.blocks = blocks

    @classmethod
    def of(
        cls, blocks: tuple[int, ...], hidden: Sequence[int], outputs: int, activation: type[nn.Module] = nn.ReLU
    ) -> "TopDownDecoder":
        """Square matrices G without bias, and maps T that are MLPs with these hidden layers."""
        memory.require_memory(sum(size * size for size in blocks), "TopDownDecoder")
        noise = [nn.Linear(size, size, bias=False) for size in blocks]
        maps = [MLP(size, hidden, after, activation) for size, after in pairwise((*blocks, outputs))]
        return cls(noise, maps, blocks)

    def forward(self, z: Float[Tensor, "N D"]) -> Tensor:
        above: Tensor | float = 0.0
        for part, enter, on in zip(z.split(self.blocks, dim=-1), self.noise, self.maps, strict=True):
            above = on(above + enter(part))
        assert isinstance(above, torch.Tensor)
        return above
