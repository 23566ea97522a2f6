"""How hot the momentum of a Hamiltonian VAE is at first, and how it cools."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Tempering(nn.Module, ABC):
    """Temperatures ``T_0 ... T_{K-1}`` before each of K leapfrog steps; after the last one, ``T_K = 1``."""

    @abstractmethod
    def forward(self, steps: int) -> Float[Tensor, " K"]:
        """``log T_0 ... log T_{K-1}``."""


class NoTempering(Tempering):
    """``T = 1`` throughout.

    Example:
        >>> NoTempering()(3)
        tensor([0., 0., 0.])
    """

    def forward(self, steps: int) -> Float[Tensor, " K"]:
        return torch.zeros(steps)


class QuadraticTempering(Tempering):
    r"""``sqrt(T_k) = sqrt(T_0) + (1 - sqrt(T_0)) (k / K)^2``: slow at first.

    Args:
        temperature: ``T_0``, above 1.
        learned: with the rest of the method; it stays above 1.

    Raises:
        ValueError: a temperature of 1 or less.

    Reference: "fixed tempering" of Caterini, Doucet and Sejdinovic, NeurIPS 2018, which learns ``T_0``. Their
    published code has other forms of it, quadratic in ``T_k`` for images.

    Example:
        >>> [round(t, 3) for t in QuadraticTempering(4.0)(2).exp().tolist()]
        [4.0, 3.062]
    """

    def __init__(self, temperature: float = 1.5, learned: bool = True):
        super().__init__()
        if not temperature > 1:
            raise ValueError(f"QuadraticTempering: temperature must be above 1; got {temperature}. Use NoTempering().")
        self.excess = nn.Parameter(torch.tensor(math.log(temperature**0.5 - 1)), requires_grad=learned)
        """``log(sqrt(T_0) - 1)``."""

    def forward(self, steps: int) -> Float[Tensor, " K"]:
        share = torch.arange(steps, dtype=self.excess.dtype, device=self.excess.device) / steps
        return 2 * torch.log1p(self.excess.exp() * (1 - share.square()))


class FreeTempering(Tempering):
    """Every factor ``a_k = sqrt(T_k / T_{k-1})`` in (0, 1) is learned, and ``T_0 = prod a_k^-2``.

    Args:
        steps: number K of leapfrog steps.
        factor: ``a_k`` to begin with.

    Raises:
        ValueError: a factor outside (0, 1), fewer than 1 step, or another number of steps later.

    Reference: "free tempering" of Caterini, Doucet and Sejdinovic, NeurIPS 2018.

    Example:
        >>> [round(t, 4) for t in FreeTempering(2, 0.5)(2).exp().tolist()]
        [16.0, 4.0]
    """

    def __init__(self, steps: int, factor: float = 0.9):
        super().__init__()
        if steps < 1 or not 0 < factor < 1:
            raise ValueError(f"FreeTempering: expects steps >= 1 and factor in (0, 1); got {steps} and {factor}.")
        self.logits = nn.Parameter(torch.full((steps,), math.log(factor / (1 - factor))))

    def forward(self, steps: int) -> Float[Tensor, " K"]:
        if steps != len(self.logits):
            raise ValueError(f"FreeTempering: made for {len(self.logits)} steps; got {steps}. Give both the same.")
        cooling = nn.functional.logsigmoid(self.logits)
        return -2 * cooling.flip(0).cumsum(0).flip(0)
