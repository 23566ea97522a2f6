"""Laws of what is missing: p(mask | x), each element observed or not given the values of all."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

LARGER, SMALLER = "larger", "smaller"
"""Which values go missing, where that is known."""
AT_FIRST = 1.0
"""The slope at which a law of known direction starts: in units of a column's standard deviation."""


class Missingness(nn.Module, ABC):
    r"""``p(s | x) = prod_j sigmoid(l_j(x))^{s_j} (1 - sigmoid(l_j(x)))^{1 - s_j}``, s_j = 1 where x_j is observed.

    The values x are flat and in the model's units, the missing ones among them; the logits l are those of being
    observed. For authors: implement :meth:`logits`, with ``self.offset`` as what all values have in common.

    Args:
        size: E, number of values of an example.

    Raises:
        ValueError: a size below 1.

    Reference: Ipsen, Mattei and Frellsen, *not-MIWAE: Deep Generative Modelling with Missing not at Random Data*, ICLR
    2021, section 3.
    """

    def __init__(self, size: int):
        super().__init__()
        if size < 1:
            raise ValueError(f"{type(self).__name__}: size must be 1 or more; got {size}.")
        self.size = size
        self.offset = nn.Parameter(torch.zeros(size))

    @abstractmethod
    def logits(self, x: Float[Tensor, "*L E"]) -> Float[Tensor, "*L E"]:
        """Of being observed."""

    def log_prob(self, mask: Bool[Tensor, "B E"], x: Float[Tensor, "*S B E"]) -> Float[Tensor, "*S B"]:
        """``log p(mask | x)`` of each draw of x, nats; the mask is True where observed.

        Raises:
            ValueError: examples of another size.
        """
        if x.shape[-1] != self.size:
            raise ValueError(f"{type(self).__name__}: expected examples of {self.size} values; got {x.shape[-1]}.")
        logits = self.logits(x)
        return logsigmoid(torch.where(mask, logits, -logits)).sum(-1)

    @torch.no_grad()
    def start_at(self, mask: Bool[Tensor, "N E"]) -> None:
        """The offset gives each element the share in which it was observed; half a row is counted for either side."""
        share = (mask.sum(0) + 0.5) / (len(mask) + 1)
        self.offset.copy_(share.logit())


class ConstantMissingness(Missingness):
    """``l_j(x) = c_j``: a share of each column is missing, whatever the values (MCAR).

    Example:
        >>> law = ConstantMissingness(2)
        >>> f"{law.log_prob(torch.tensor([[True, False]]), torch.zeros(1, 2)).item():.4f}"   # log 1/4
        '-1.3863'
    """

    def logits(self, x: Float[Tensor, "*L E"]) -> Float[Tensor, "*L E"]:
        return self.offset.expand_as(x)


class SelfMasking(Missingness):
    """``l_j(x) = c_j - w_j x_j``: a value is missing by its own size.

    With ``lost="larger"`` w is positive, as ``softplus(v)``, with ``lost="smaller"`` negative; else of any sign, and
    starts at 0, where nothing says which.

    Args:
        size: E.
        lost: which values go missing.

    Raises:
        ValueError: no such word.

    Reference: as :class:`Missingness`. Differences: there ``l_j = -w_j (x_j - b_j)``, which is ``c_j = w_j b_j``; so
    written a slope of 0 leaves any share missing.

    Example:
        >>> SelfMasking(3, "larger").slope.tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, size: int, lost: str | None = None):
        super().__init__(size)
        if lost not in (None, LARGER, SMALLER):
            raise ValueError(f"SelfMasking: expected lost {LARGER!r}, {SMALLER!r} or None; got {lost!r}.")
        self.lost = lost
        self.weight = nn.Parameter(torch.full((size,), 0.0 if lost is None else math.log(math.expm1(AT_FIRST))))

    @property
    def slope(self) -> Float[Tensor, " E"]:
        """w: positive where larger values are missing more often."""
        if self.lost is None:
            return self.weight
        return softplus(self.weight) * (1 if self.lost == LARGER else -1)

    def logits(self, x: Float[Tensor, "*L E"]) -> Float[Tensor, "*L E"]:
        return self.offset - self.slope * x


class LinearMissingness(Missingness):
    """``l(x) = c - W x``: any value may say whether another one is missing. W starts at 0.

    Example:
        >>> LinearMissingness(3).weight.shape
        torch.Size([3, 3])
    """

    def __init__(self, size: int):
        super().__init__(size)
        self.weight = nn.Parameter(torch.zeros(size, size))

    def logits(self, x: Float[Tensor, "*L E"]) -> Float[Tensor, "*L E"]:
        return self.offset - x @ self.weight.mT


class NetworkMissingness(Missingness):
    """``l(x) = c + f(x)``, f a network from E to E values; its last layer, where it has one, starts at 0.

    Args:
        size: E.
        network: f, from (N, E).

    Example:
        >>> NetworkMissingness(3, nn.Linear(3, 3)).logits(torch.ones(2, 3)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, size: int, network: nn.Module):
        super().__init__(size)
        self.network = network
        last = next((each for each in reversed([*network.modules()]) if isinstance(each, nn.Linear)), None)
        for parameter in () if last is None else last.parameters():
            nn.init.zeros_(parameter)

    def logits(self, x: Float[Tensor, "*L E"]) -> Float[Tensor, "*L E"]:
        return self.offset + self.network(x.reshape(-1, self.size)).reshape(x.shape)
