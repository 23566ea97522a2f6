"""Conditional laws: from numbers to the law of one layer of latents; without parameters of their own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.discrete_posteriors import IndependentCategorical
from curvae.distributions.gaussian import DiagonalGaussian
from curvae.linalg import soft_bound

LayerLaw = DiagonalGaussian | IndependentCategorical
LEAST = 1e-12
"""Probability below which a category counts as one of that."""


class ConditionalDistribution(ABC):
    """A law of ``size`` latents by ``parameters`` numbers phi; all numbers 0 is its standard form."""

    continuous: ClassVar[bool] = True
    size: int

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers say which law it is."""

    @abstractmethod
    def __call__(self, phi: Float[Tensor, "*B Q"]) -> LayerLaw:
        """The law given these numbers."""

    @abstractmethod
    def natural_gradient(self, phi: Float[Tensor, "*B Q"], slope: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B Q"]:
        """``G^-1 slope`` with the Fisher information G of phi, for the slope of what depends on the law alone."""


@dataclass(frozen=True)
class FixedNormal(ConditionalDistribution):
    """``N(z; phi, scale^2 I)``.

    Example:
        >>> import torch
        >>> FixedNormal(2, scale=3.0)(torch.ones(4, 2)).variance[0].round(decimals=4).tolist()
        [9.0, 9.0]
    """

    size: int
    scale: float = 1.0

    @property
    def parameters(self) -> int:
        return self.size

    def __call__(self, phi: Float[Tensor, "*B Q"]) -> DiagonalGaussian:
        return DiagonalGaussian(phi, torch.full_like(phi, log(self.scale)))

    def natural_gradient(self, phi: Float[Tensor, "*B Q"], slope: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B Q"]:
        return self.scale**2 * slope


@dataclass(frozen=True)
class LearnedNormal(ConditionalDistribution):
    """``N(z; m, diag(s^2))`` with phi = (m, log s), log s softly bounded to [-7, 7] unless ``bounded`` is False.

    Example:
        >>> import torch
        >>> LearnedNormal(1)(torch.tensor([0.0, -1.0])).log_prob(torch.zeros(1)).item()   # 1 - log(2 pi) / 2
        0.0...
    """

    size: int
    bounded: bool = True

    @property
    def parameters(self) -> int:
        return 2 * self.size

    def __call__(self, phi: Float[Tensor, "*B Q"]) -> DiagonalGaussian:
        mean, log_scale = phi.chunk(2, dim=-1)
        return DiagonalGaussian(mean, soft_bound(log_scale) if self.bounded else log_scale)

    def natural_gradient(self, phi: Float[Tensor, "*B Q"], slope: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B Q"]:
        """G is that of (m, log s), diag(1 / s^2, 2), where log s is within its bounds."""
        of_mean, of_log_scale = slope.chunk(2, dim=-1)
        return torch.cat([self(phi).variance * of_mean, 0.5 * of_log_scale], dim=-1)


@dataclass(frozen=True)
class OneHot(ConditionalDistribution):
    """Groups of latents, one of each is 1 and the others 0, with probabilities ``softmax(phi)`` within the group.

    Args:
        groups: number of groups.
        categories: latents in each.

    Example:
        >>> import torch
        >>> law = OneHot(groups=1, categories=4)(torch.zeros(4))
        >>> f"{law.log_prob(torch.tensor([0.0, 1.0, 0.0, 0.0])).item():.4f}"   # -log 4
        '-1.3863'
    """

    groups: int
    categories: int
    continuous: ClassVar[bool] = False

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.groups * self.categories

    @property
    def parameters(self) -> int:
        return self.size

    def __call__(self, phi: Float[Tensor, "*B Q"]) -> IndependentCategorical:
        return IndependentCategorical(phi.unflatten(-1, (self.groups, self.categories)))

    def natural_gradient(self, phi: Float[Tensor, "*B Q"], slope: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B Q"]:
        """``G = diag(p) - p p'`` is singular: of all inverses ``slope / p``, the slope in the probabilities."""
        return slope / self(phi).mean.clamp(min=LEAST)
