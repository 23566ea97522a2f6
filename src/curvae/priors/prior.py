"""The contract of a prior p(z)."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.distributions.gaussian import DiagonalGaussian


class Prior(nn.Module, ABC):
    """A normalized density p(z) over all latent dimensions, ``D = sum(blocks)``.

    Several latent layers or factors are one ``z``; ``blocks`` are their sizes, ``(D,)`` if z is flat.
    """

    blocks: tuple[int, ...]
    continuous: bool = True
    """False where z is discrete: p(z) is a probability, and there is no slope or curvature to go by."""

    quadratic: bool = False
    """Whether log p(z) is quadratic, so that its precision is the same everywhere."""

    @property
    def size(self) -> int:
        """Number of latent dimensions D."""
        return sum(self.blocks)

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """``log p(z)`` in nats."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        """``n`` independent draws."""

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """``d log p(z) / dz``; a prior that knows it in closed form says so.

        Raises:
            ValueError: discrete latents.
        """
        if not self.continuous:
            name = type(self).__name__
            raise ValueError(f"{name}: discrete latents have no score; use an inference that takes none.")
        log_p, pull = torch.func.vjp(self.log_prob, z)[:2]
        return pull(torch.ones_like(log_p))[0]

    @abstractmethod
    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        """Positive semi-definite: ``-d2 log p / dz2`` where that is, or what is left of it without the parts that could
        make it indefinite (Gauss-Newton of a flow, the mean over the components of a mixture)."""


@runtime_checkable
class StartsAtNormal(Protocol):
    """A prior under which a linear model's latents make sense: it is theirs, or has room for them."""

    def start_from(self, deviation: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        """Become N(0, I) of these latents where it can, in units that are returned.

        Args:
            deviation: of the latents in their posterior, which is the same for all data.
        """
        ...


@runtime_checkable
class StartsAtEncoded(Protocol):
    """A prior that starts from rows of the data and where an encoder puts them."""

    def start_at(self, x: Float[Tensor, "N *event"], q: DiagonalGaussian) -> None:
        """Become like the aggregate of these posteriors.

        Args:
            x: rows of the training data, 0 where not observed.
            q: means and variances of their posteriors.
        """
        ...
