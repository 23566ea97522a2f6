"""The contract of a posterior over the weights of a network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from curvae.weights.vectors import WeightVector, weight_vector, with_weights


class WeightPosterior(nn.Module, ABC):
    """q(theta) of a network's weights; what is known of them is in buffers, which are saved with the system.

    Buffers are empty until a stage of training has sized them, and a posterior that has seen no data is the network's
    own weights alone.
    """

    rows: Tensor
    """N, how many training rows there are; 0 as long as that is not known."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def networks(self, network: nn.Module, count: int, generator: torch.Generator | None = None) -> Iterator[nn.Module]:
        """Networks like this one with weights drawn from q, one after the other; the network itself stays as it is."""


class SampledWeights(WeightPosterior):
    """One that draws whole weight vectors."""

    @abstractmethod
    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        """Draws of theta, ``center`` being the network's own weights."""

    def networks(self, network: nn.Module, count: int, generator: torch.Generator | None = None) -> Iterator[nn.Module]:
        for vector in self.draw(weight_vector(network).detach(), count, generator):
            yield with_weights(network, vector)


def choose_rows(stored: int, count: int, generator: torch.Generator | None = None) -> list[int]:
    """Which of some stored draws are taken for ``count``: none twice before every one was taken.

    Example:
        >>> sorted(choose_rows(3, 6, torch.Generator().manual_seed(0)))
        [0, 0, 1, 1, 2, 2]
    """
    turns = -(-count // stored)
    device = "cpu" if generator is None else generator.device
    each = [torch.randperm(stored, generator=generator, device=device) for _ in range(turns)]
    return torch.cat(each)[:count].tolist()
