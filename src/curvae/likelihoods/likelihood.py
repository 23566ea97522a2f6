"""The contract of a likelihood p(x | eta)."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from curvae.linear import LinearGaussian
from curvae.typing import Context

InformationKind = Literal["constant", "diagonal", "block"]


class Quadratic(NamedTuple):
    """``log p(x | W h + b) = level + slope'h - 1/2 h' gram h``."""

    level: Float[Tensor, " B"]
    slope: Float[Tensor, "B H"]
    gram: Float[Tensor, "H H"]


class Likelihood(nn.Module, ABC):
    """p(x | eta) for one example of shape ``event``; eta is flat, and the map from its P values to the event is ours.

    Shapes broadcast over leading dimensions: ``x (*L, *event)``, ``eta (*L, P)``, ``mask (*L, *event)``, True where
    observed. Nothing unobserved contributes, whatever value stands there.

    Attributes:
        event: shape of one example.
        size: P, the number of values of eta.
        known: how many of them are known of each row; the decoder gives the others.
        information: how the expected information varies. ``"constant"``: it does not depend on eta, *and* log p is
            quadratic in eta, which allows the Gram route of the curvature engine.
        reparameterized: whether draws have the whole gradient by eta and by parameters of our own.
    """

    event: tuple[int, ...]
    size: int
    known: int = 0
    information: InformationKind
    reparameterized: bool = False

    def __init__(self, event: int | tuple[int, ...], per_element: int = 1):
        super().__init__()
        self.event = (event,) if isinstance(event, int) else tuple(event)
        if not self.event or min(self.event) < 1:
            raise ValueError(f"{type(self).__name__}: event must be a size or shape of sizes >= 1; got {event}.")
        self.size = per_element * torch.Size(self.event).numel()

    @property
    def outputs(self) -> int:
        """How many values the decoder must give."""
        return self.size - self.known

    def placed(self, out: Float[Tensor, "*L B Q"], context: Context) -> Float[Tensor, "*L B P"]:
        """eta: what the decoder gives, with what is known of each row, but for covariates, in its place.

        Raises:
            ValueError: errors or exposure of a likelihood that has none, or none of one that has errors.
        """
        if context.exposure is not None:
            if not isinstance(self, TakesExposure):
                raise ValueError(f"exposure: expected none with the likelihood {type(self).__name__}, which has none.")
            out = self.with_exposure(out, context.exposure.to(out))
        if context.errors is None and isinstance(self, TakesErrors):
            raise ValueError(f"errors: expected those of each row with {type(self).__name__}, got none.")
        if context.errors is not None:
            if not isinstance(self, TakesErrors):
                raise ValueError(f"errors: expected none with the likelihood {type(self).__name__}, which has none.")
            out = self.with_errors(out, context.errors.to(out))
        return out

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

    def flat(self, value: Tensor) -> Tensor:
        """(*L, *event) -> (*L, E)."""
        return value.flatten(-len(self.event))

    def unflat(self, value: Tensor) -> Tensor:
        """(*L, E) -> (*L, *event)."""
        return value.unflatten(-1, self.event)


@runtime_checkable
class TakesExposure(Protocol):
    """A likelihood of counts, whose means may be in proportion to something that is known of each row."""

    def with_exposure(self, out: Float[Tensor, "*L B Q"], exposure: Float[Tensor, " B"]) -> Float[Tensor, "*L B P"]:
        """eta, of what the decoder gives."""
        ...


@runtime_checkable
class TakesErrors(Protocol):
    """A likelihood of values whose errors are known."""

    def with_errors(self, out: Float[Tensor, "*L B Q"], errors: Float[Tensor, "B *event"]) -> Float[Tensor, "*L B P"]:
        """eta, of what the decoder gives and the standard deviations of the errors."""
        ...


@runtime_checkable
class HasBound(Protocol):
    """A likelihood whose information has a constant bound."""

    def bound(self, v: Float[Tensor, "*L P"]) -> Float[Tensor, "*L Q"]:
        """``R0'v`` with ``R0 R0' >= -d2 log p(x | eta) / d eta2`` at every eta and x, nothing missing; linear in v."""
        ...


@runtime_checkable
class StartsAtLinear(Protocol):
    """A likelihood whose decoder can start at a linear-Gaussian model of the data."""

    def linear_features(self, x: Tensor) -> Float[Tensor, "N Q"]:
        """What it is a model of."""
        ...

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """The candidates."""
        ...

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Take over what a model has of our own parameters; weight (P, D) and bias (P,) of a decoder beside them."""
        ...


@runtime_checkable
class HasNoise(Protocol):
    """A likelihood with parameters of its own."""

    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Set them from the training data, once, before training."""
        ...

    def maximize(self, x: Tensor, eta: Float[Tensor, "*S B P"], mask: Tensor | None = None) -> None:
        """Set them to those of the highest mean ``log p(x | eta)``, in closed form."""
        ...


def masked(value: Tensor, mask: Tensor | None) -> Tensor:
    """``value`` where observed, exactly 0 elsewhere (a NaN there does not survive)."""
    return value if mask is None else torch.where(mask, value, torch.zeros((), dtype=value.dtype, device=value.device))
