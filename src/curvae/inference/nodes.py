"""Points and weights for expectations under a Gaussian posterior: draws in pairs, whole frames, or quadrature."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from curvae.argument_checks import check_least, check_seed

MOST = 4096
"""The largest grid: nodes of each example."""


class Nodes(NamedTuple):
    """``sum_k w_k f(e_k)`` for ``E f(e)``, e standard normal; ``-e_k`` is a node too, of the same weight."""

    e: Float[Tensor, "K D"]
    weight: Float[Tensor, " K"]


class NodeRule(ABC):
    """The nodes of each round, as many in each, the same for all examples and at every call."""

    exact: ClassVar[bool]
    """Whether ``sum_k w_k e_k e_k' = I``: then gradients alone give the mean of a Hessian."""

    @abstractmethod
    def rounds(self, size: int) -> Iterator[Nodes]:
        """Nodes in D dimensions, in float64 on the CPU, round after round."""


@dataclass(frozen=True)
class Antithetic(NodeRule):
    """Standard normal draws e and -e, fresh ones in each round.

    Args:
        draws: in a round, an even number.
        seed: of all of them.

    Raises:
        ValueError: draws not even or below 2, or no seed.

    Example:
        >>> one, two = next(Antithetic(draws=2).rounds(size=3)).e
        >>> torch.equal(one, -two)
        True
    """

    exact: ClassVar[bool] = False
    draws: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_least("Antithetic", 2, draws=self.draws)
        check_seed(self.seed)
        if self.draws % 2:
            raise ValueError(f"Antithetic: draws come in pairs, so their number must be even; got {self.draws}.")

    def rounds(self, size: int) -> Iterator[Nodes]:
        generator = torch.Generator().manual_seed(self.seed)
        weight = torch.full((self.draws,), 1 / self.draws, dtype=torch.float64)
        while True:
            e = torch.randn(self.draws // 2, size, dtype=torch.float64, generator=generator)
            yield Nodes(torch.cat([e, -e]), weight)


@dataclass(frozen=True)
class OrthogonalFrames(NodeRule):
    """``+-sqrt(D)`` times the axes of a random frame, another one in each round: 2 D nodes with exact second moments.

    Args:
        seed: of all frames.

    Raises:
        ValueError: no seed.

    Example:
        >>> e, weight = next(OrthogonalFrames().rounds(size=3))
        >>> torch.allclose((weight * e.mT) @ e, torch.eye(3, dtype=torch.float64))
        True
    """

    exact: ClassVar[bool] = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def rounds(self, size: int) -> Iterator[Nodes]:
        generator = torch.Generator().manual_seed(self.seed)
        weight = torch.full((2 * size,), 0.5 / size, dtype=torch.float64)
        while True:
            frame = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator)).Q
            yield Nodes(size**0.5 * torch.cat([frame, -frame]), weight)


@dataclass(frozen=True)
class GaussHermite(NodeRule):
    """The grid of ``order^D`` Gauss-Hermite nodes: exact for polynomials of degree ``2 order - 1`` in each dimension.

    Args:
        order: nodes along each dimension; 2 or more, for the second moments.

    Raises:
        ValueError: an order below 2; in use, a grid of more than 4,096 nodes.

    Example:
        >>> e, weight = next(GaussHermite(3).rounds(size=2))
        >>> torch.round((weight * e[:, 0] ** 4).sum(), decimals=6).item()   # E e^4
        3.0
    """

    exact: ClassVar[bool] = True
    order: int = 8

    def __post_init__(self) -> None:
        check_least("GaussHermite", 2, order=self.order)

    def rounds(self, size: int) -> Iterator[Nodes]:
        if self.order**size > MOST:
            raise ValueError(
                f"GaussHermite: {self.order}^{size} nodes are more than {MOST:,}. Take Antithetic draws, or a lower "
                "order."
            )
        points, weights = np.polynomial.hermite_e.hermegauss(self.order)
        e, weight = (_grid(torch.from_numpy(one), size) for one in (points, weights / weights.sum()))
        while True:
            yield Nodes(e, weight.prod(-1))


def _grid(values: Float[Tensor, " n"], size: int) -> Float[Tensor, "K D"]:
    """All tuples of D of the values."""
    return torch.cartesian_prod(*[values] * size).reshape(-1, size)
