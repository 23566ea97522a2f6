"""The contract of a flow: a bijection of R^D for each example, and how it stretches volume."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn


class Transformed(NamedTuple):
    """Where points go, and ``log |det|`` of the Jacobian on the way there, in nats."""

    z: Float[Tensor, "S B D"]
    log_det: Float[Tensor, "S B"]


class Flow(nn.Module, ABC):
    """``z' = f(z; c)``, invertible in z for every c, differentiable in both.

    c is all that a flow knows of an example: numbers from the encoder, either the flow's own parameters or the context
    of its networks. A flow with ``context = 0`` is the same for all examples, and takes None.
    """

    size: int
    """Number of dimensions D."""
    context: int
    """Number C of values that it takes of each example."""
    cheap: Literal["forward", "both"]
    """The direction of one pass: a posterior draws forward, so every flow is cheap that way; ``"both"`` where a
    density at other points is, too."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        """``f(z; c)`` and ``log |det df/dz|``."""

    @abstractmethod
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """Make ``f(z; c) = a z`` for every example, in place, and say ``log a``: 0 if the family has the identity.

        Args:
            weight: of the layer that gives c; set where c are the flow's own parameters, left where its networks are.
            bias: of that layer.
        """


class InvertibleFlow(Flow):
    """A flow whose inverse can be computed, so that it gives a density at any z."""

    @abstractmethod
    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        """``f^-1(z; c)`` and ``log |det df^-1/dz|``."""


@runtime_checkable
class HasJacobian(Protocol):
    """A flow that knows its Jacobian by a cheaper way than D derivatives."""

    def jacobian(
        self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None
    ) -> Float[Tensor, "S B D D"]:
        """``df_i/dz_j``, differentiable."""
        ...


def required(flow: Flow, context: Tensor | None) -> Tensor:
    """The context of a flow that has no parameters of its own.

    Raises:
        ValueError: None.
    """
    if context is None:
        raise ValueError(f"{type(flow).__name__}: expects a context of {flow.context} values per example; got None.")
    return context
