"""The contract of a likelihood p(x | eta)."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from curvae.linear import LinearGaussian

InformationKind = Literal["constant", "diagonal", "block"]


class Quadratic(NamedTuple):
    """``log p(x | W h + b) = level + slope'h - 1/2 h' gram h``."""

    level: Float[Tensor, " B"]
    slope: Float[Tensor, "B H"]
    gram: Float[Tensor, "H H"]


class Likelihood(nn.Module, ABC):
    """p(x | eta) for one datum of shape ``event``; eta is flat, and the map from its P values to the event is ours.

    Shapes broadcast over leading dimensions: ``x (*L, *event)``, ``eta (*L, P)``, ``mask (*L, *event)``, True where
    observed. Nothing unobserved contributes, whatever value stands there.

    Attributes:
        event: shape of one datum.
        size: P, the number of values that the decoder must give.
        information: how the expected information varies. ``"constant"``: it does not depend on eta, *and* log p is
            quadratic in eta, which allows the Gram route of the curvature engine.
        bounded: whether :meth:`bound` has an answer.
    """

    event: tuple[int, ...]
    size: int
    information: InformationKind
    bounded: bool = False

    def __init__(self, event: int | tuple[int, ...], per_element: int = 1):
        super().__init__()
        self.event = (event,) if isinstance(event, int) else tuple(event)
        if not self.event or min(self.event) < 1:
            raise ValueError(f"{type(self).__name__}: event must be a size or shape of sizes >= 1; got {event}.")
        self.size = per_element * torch.Size(self.event).numel()

    @abstractmethod
    def log_prob(
        self,
        x: Shaped[Tensor, "*B event"],
        eta: Float[Tensor, "*L P"],
        mask: Bool[Tensor, "*M event"] | None = None,
    ) -> Float[Tensor, "*L"]:
        """``log p(x | eta)`` in nats, summed over the observed elements."""

    @abstractmethod
    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        """``d log p(x | eta) / d eta``, (*L, P)."""

    @abstractmethod
    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """``R'v`` with ``R R'`` the expected information of x about eta; linear in v, (*L, P) -> (*L, Q)."""

    def diagonal(self, eta: Float[Tensor, "*L P"], mask: Tensor | None = None) -> Float[Tensor, "*L P"] | None:
        """The information about eta where that is a diagonal matrix, (*L, P); None where it is not."""
        return self.root(eta, torch.ones_like(eta), mask).square() if self.information == "diagonal" else None

    def bound(self, v: Float[Tensor, "*L P"]) -> Float[Tensor, "*L Q"]:
        """``R0'v`` with ``R0 R0' >= -d2 log p(x | eta) / d eta2`` at every eta and x, nothing missing; linear in v.

        Raises:
            ValueError: there is no bound (``bounded`` is False).
        """
        raise ValueError(f"{type(self).__name__}: the information has no constant bound; search with Newton().")

    def quadratic(
        self, x: Shaped[Tensor, "B *event"], weight: Float[Tensor, "P H"], bias: Float[Tensor, " P"]
    ) -> Quadratic:
        """Log p of eta = W h + b as a function of h, for constant information and nothing missing."""
        eta = bias.expand(len(x), -1)
        root = self.root(eta[:1], weight.mT)
        return Quadratic(self.log_prob(x, eta), self.score(x, eta) @ weight, root @ root.mT)

    @abstractmethod
    def mean(self, eta: Tensor) -> Tensor:
        """``E[x | eta]``, (*L, *event) (probabilities with a trailing dimension for a categorical)."""

    @abstractmethod
    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of x per row of eta, (*L, *event)."""

    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Set parameters of our own from the training data, once, before training; most have none."""

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Linear-Gaussian models of :meth:`linear_features` that a decoder could start from; none by default."""
        return ()

    def linear_features(self, x: Tensor) -> Tensor:
        """What such a model is one of, (N, Q)."""
        return self.flat(x).double()

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Take over what a model has of our own parameters; weight (P, D) and bias (P,) of a decoder beside them."""
        return model.weight, model.mean

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """Set parameters of our own to those of the highest mean ``log p(x | eta)``, where that has a closed form.

        ``eta`` may have leading dimensions of its own, (*S, B, P). Most likelihoods have no such parameters.
        """

    def flat(self, value: Tensor) -> Tensor:
        """(*L, *event) -> (*L, E)."""
        return value.flatten(-len(self.event))

    def unflat(self, value: Tensor) -> Tensor:
        """(*L, E) -> (*L, *event)."""
        return value.unflatten(-1, self.event)


def masked(value: Tensor, mask: Tensor | None) -> Tensor:
    """``value`` where observed, exactly 0 elsewhere (a NaN there does not survive)."""
    return value if mask is None else torch.where(mask, value, torch.zeros((), dtype=value.dtype, device=value.device))
