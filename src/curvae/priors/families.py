"""What the distribution of one layer of latents is, given its parameters; values without parameters of their own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.linalg import LOG_2PI, soft_bound


class Family(ABC):
    """A distribution of ``size`` latents by ``parameters`` numbers; all numbers 0 is its standard form."""

    continuous: ClassVar[bool] = True
    size: int

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers say which distribution it is."""

    @abstractmethod
    def mean(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        """Mean of z."""

    @abstractmethod
    def mode(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        """The most probable z."""

    @abstractmethod
    def variance(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        """Variance of each z."""

    @abstractmethod
    def covariance(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D D"]:
        """Covariance of z."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*B D"], phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B"]:
        """Log-density, or log-probability, in nats."""

    @abstractmethod
    def sample(self, noise: Float[Tensor, "*B D"], phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        """A draw made of standard normal noise."""

    @abstractmethod
    def divergence(self, phi: Float[Tensor, "*B Q"], other: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B"]:
        """``KL(. | phi || . | other)`` in nats."""

    @abstractmethod
    def interval(self, phi: Float[Tensor, "*B Q"], level: float) -> tuple[Tensor, Tensor]:
        """Central interval of each z."""

    @abstractmethod
    def residual(self, z: Tensor, phi: Float[Tensor, "*B Q"], at: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B R"]:
        """R whose Jacobian J, in z and what phi depends on, gives the expected information of -log p(z | phi), J'J.

        ``at`` has the values of phi, and is not differentiated.
        """


class Normal(Family):
    """What the two normal families have in common."""

    @abstractmethod
    def moments(self, phi: Float[Tensor, "*B Q"]) -> tuple[Tensor, Tensor]:
        """Mean and log-scale."""

    def mean(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        return self.moments(phi)[0]

    def mode(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        return self.mean(phi)

    def variance(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        return (2 * self.moments(phi)[1]).exp()

    def covariance(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D D"]:
        return torch.diag_embed(self.variance(phi))

    def log_prob(self, z: Float[Tensor, "*B D"], phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B"]:
        mean, log_scale = self.moments(phi)
        return (-0.5 * (((z - mean) * (-log_scale).exp()).square() + LOG_2PI) - log_scale).sum(-1)

    def sample(self, noise: Float[Tensor, "*B D"], phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        mean, log_scale = self.moments(phi)
        return mean + log_scale.exp() * noise

    def divergence(self, phi: Float[Tensor, "*B Q"], other: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B"]:
        (mean, log_scale), (mean_, log_scale_) = self.moments(phi), self.moments(other)
        ratio = 2 * (log_scale - log_scale_)
        return 0.5 * (ratio.exp() - 1 - ratio + ((mean - mean_) * (-log_scale_).exp()).square()).sum(-1)

    def interval(self, phi: Float[Tensor, "*B Q"], level: float) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.moments(phi)
        half = log_scale.exp() * NormalDist().inv_cdf(0.5 + level / 2)
        return mean - half, mean + half

    def residual(self, z: Tensor, phi: Float[Tensor, "*B Q"], at: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B R"]:
        (mean, log_scale), (_, fixed) = self.moments(phi), self.moments(at)
        return torch.cat([(z - mean) * (-fixed).exp(), 2**0.5 * log_scale], dim=-1)


@dataclass(frozen=True)
class FixedNormal(Normal):
    """``N(z; phi, scale^2 I)``: the divergence is the squared error ``|phi - other|^2 / (2 scale^2)``.

    Example:
        >>> import torch
        >>> FixedNormal(2).divergence(torch.ones(2), torch.zeros(2)).item()
        1.0
    """

    size: int
    scale: float = 1.0

    @property
    def parameters(self) -> int:
        return self.size

    def moments(self, phi: Float[Tensor, "*B Q"]) -> tuple[Tensor, Tensor]:
        return phi, torch.full_like(phi, self.scale).log()


@dataclass(frozen=True)
class LearnedNormal(Normal):
    """``N(z; m, diag(s^2))`` with phi = (m, log s), log s softly bounded to [-7, 7].

    Example:
        >>> import torch
        >>> LearnedNormal(1).log_prob(torch.zeros(1), torch.tensor([0.0, -1.0])).item()   # 1 - log(2 pi) / 2
        0.0...
    """

    size: int

    @property
    def parameters(self) -> int:
        return 2 * self.size

    def moments(self, phi: Float[Tensor, "*B Q"]) -> tuple[Tensor, Tensor]:
        mean, log_scale = phi.chunk(2, dim=-1)
        return mean, soft_bound(log_scale)


@dataclass(frozen=True)
class OneHot(Family):
    """Groups of latents, one of each is 1 and the others 0, with probabilities ``softmax(phi)`` within the group.

    Args:
        groups: number of groups.
        categories: latents in each.

    Example:
        >>> import torch
        >>> family = OneHot(groups=1, categories=4)
        >>> f"{family.log_prob(torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.zeros(4)).item():.4f}"   # -log 4
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

    def mean(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        return self._log_p(phi).exp().flatten(-2)

    def mode(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        return self._highest(self._split(phi))

    def variance(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        p = self.mean(phi)
        return p * (1 - p)

    def covariance(self, phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D D"]:
        ones = torch.ones(self.categories, self.categories)
        p, within = self.mean(phi), torch.block_diag(*[ones] * self.groups).to(phi)
        return torch.diag_embed(p) - within * p.unsqueeze(-1) * p.unsqueeze(-2)

    def log_prob(self, z: Float[Tensor, "*B D"], phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B"]:
        return (z * self._log_p(phi).flatten(-2)).sum(-1)

    def sample(self, noise: Float[Tensor, "*B D"], phi: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B D"]:
        gumbel = -(-torch.special.log_ndtr(noise)).log()
        return self._highest(self._log_p(phi) + self._split(gumbel))

    def divergence(self, phi: Float[Tensor, "*B Q"], other: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B"]:
        log_p = self._log_p(phi)
        return (log_p.exp() * (log_p - self._log_p(other))).sum((-2, -1))

    def interval(self, phi: Float[Tensor, "*B Q"], level: float) -> tuple[Tensor, Tensor]:
        off, tail = 1 - self.mean(phi), (1 - level) / 2
        return (off < tail).to(phi.dtype), (off < 1 - tail).to(phi.dtype)

    def residual(self, z: Tensor, phi: Float[Tensor, "*B Q"], at: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B R"]:
        """The information of the probabilities alone: z itself has no density."""
        log_p, logits = self._log_p(at), self._split(phi)
        return ((0.5 * log_p).exp() * (logits - (log_p.exp() * logits).sum(-1, keepdim=True))).flatten(-2)

    def _split(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (self.groups, self.categories))

    def _highest(self, scores: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(scores.argmax(-1), self.categories).to(scores.dtype).flatten(-2)

    def _log_p(self, phi: Tensor) -> Tensor:
        return self._split(phi).log_softmax(-1)
