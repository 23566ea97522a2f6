"""The contract of a flow: a bijection of R^D for each datum, and how it stretches volume."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn


class Image(NamedTuple):
    """Where points go, and ``log |det|`` of the Jacobian on the way there, in nats."""

    z: Float[Tensor, "S B D"]
    log_det: Float[Tensor, "S B"]


class Flow(nn.Module, ABC):
    """``z' = f(z; c)``, invertible in z for every c, differentiable in both.

    c is all that a flow knows of a datum: numbers from the encoder, either the flow's own parameters or the context of
    its networks.
    """

    size: int
    """Number of dimensions D."""
    context: int
    """Number C of values that it takes of each datum."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"]) -> Image:
        """``f(z; c)`` and ``log |det df/dz|``."""

    @abstractmethod
    def settle(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """Make ``f(z; c) = a z`` for every datum, in place, and say ``log a``: 0 where the identity is of the family.

        Args:
            weight: of the layer that gives c; set where c are the flow's own parameters, left where its networks are.
            bias: of that layer.
        """


class InvertibleFlow(Flow):
    """A flow whose inverse can be computed, so that it gives a density at any z."""

    @abstractmethod
    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"]) -> Image:
        """``f^-1(z; c)`` and ``log |det df^-1/dz|``."""
