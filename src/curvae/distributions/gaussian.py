"""Gaussian laws: diagonal, and full-covariance through a factor of the covariance or of the precision."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.posterior import DensityPosterior, Draws, ParametricPosterior
from curvae.flows import Transformed
from curvae.linalg import half_log_det, solve_lower, standard_normal_log_prob
from curvae.noise import noise


class NormalPosterior(DensityPosterior):
    """``N(z; loc, covariance)``: what does not ask how the covariance is known."""

    loc: Float[Tensor, "*B D"]

    @property
    @abstractmethod
    def variance(self) -> Float[Tensor, "*B D"]:
        """Diagonal of the covariance."""

    @property
    def center(self) -> Float[Tensor, "*B D"]:
        return self.loc

    @property
    def mean(self) -> Float[Tensor, "*B D"]:
        return self.loc

    def _interval(self, level: float) -> tuple[Float[Tensor, "*B D"], Float[Tensor, "*B D"]]:
        half = self.variance.sqrt() * NormalDist().inv_cdf(0.5 + level / 2)
        return self.loc - half, self.loc + half


class GaussianPosterior(NormalPosterior):
    """``q(z | x) = N(z; loc, C C')``: what is common to all Gaussians, given how C colors and whitens."""

    @property
    @abstractmethod
    def half_log_det(self) -> Float[Tensor, "*B"]:
        """``1/2 log det covariance``."""

    @abstractmethod
    def color(self, noise: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """``C noise``."""

    @abstractmethod
    def whiten(self, offset: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """``C^-1 offset``."""

    @property
    def columns(self) -> Float[Tensor, "D B D"]:
        """Those of C."""
        count, size = self.loc.shape
        axes = torch.eye(size, dtype=self.loc.dtype, device=self.loc.device)
        return self.color(axes.unsqueeze(1).expand(-1, count, -1))

    def from_noise(self, noise: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """``loc + C noise``: a draw where the noise is standard normal."""
        return self.loc + self.color(noise)

    def push(self, e: Float[Tensor, "S B D"]) -> Transformed:
        """``T(e) = loc + C e``, which takes standard normal noise to draws, and ``log |det dT/de|``."""
        return Transformed(self.from_noise(e), self.half_log_det.expand(e.shape[:-1]))

    def pull(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        """``T^-1(z)``."""
        return self.whiten(z - self.loc)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        eps = noise(n, self.loc, generator)
        return Draws.iid(self.from_noise(eps), standard_normal_log_prob(eps) - self.half_log_det)

    def log_prob(self, z: Float[Tensor, "*S D"]) -> Float[Tensor, "*S"]:
        return standard_normal_log_prob(self.whiten(z - self.loc)) - self.half_log_det


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(ParametricPosterior, GaussianPosterior):
    """``N(loc, diag(exp(2 log_scale)))``.

    Example:
        >>> import torch
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> q.draw(5).z.shape, q.covariance.shape
        (torch.Size([5, 4, 2]), torch.Size([4, 2, 2]))
    """

    names = ("loc", "log_scale")
    loc: Float[Tensor, "*B D"]
    log_scale: Float[Tensor, "*B D"]

    @property
    def variance(self) -> Float[Tensor, "*B D"]:
        return (2 * self.log_scale).exp()

    @property
    def covariance(self) -> Float[Tensor, "*B D D"]:
        return torch.diag_embed(self.variance)

    @property
    def half_log_det(self) -> Float[Tensor, "*B"]:
        return self.log_scale.sum(-1)

    def color(self, noise: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        return noise * self.log_scale.exp()

    def whiten(self, offset: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        return offset * (-self.log_scale).exp()

    def residual(self, z: Float[Tensor, "*B D"], at: "DiagonalGaussian") -> Float[Tensor, "*B R"]:
        """R whose Jacobian J, in z and what the law depends on, gives the expected information of -log q, J'J.

        ``at`` has the values of the law, and is not differentiated.
        """
        return torch.cat([(z - self.loc) * (-at.log_scale).exp(), 2**0.5 * self.log_scale], dim=-1)


@dataclass(frozen=True, eq=False)
class FullGaussian(ParametricPosterior, GaussianPosterior):
    """``N(loc, C C')`` with C lower triangular; ``packed`` holds C with the logarithm of its diagonal.

    Example:
        >>> import torch
        >>> FullGaussian(torch.zeros(1, 2), torch.zeros(1, 2, 2)).covariance.tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
    """

    names = ("loc", "packed")
    loc: Float[Tensor, "B D"]
    packed: Float[Tensor, "B D D"]

    @property
    def factor(self) -> Float[Tensor, "B D D"]:
        """C, lower triangular."""
        return unpack(self.packed)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return self.factor @ self.factor.mT

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        return self.factor.square().sum(-1)

    @property
    def half_log_det(self) -> Float[Tensor, " B"]:
        return self.packed.diagonal(dim1=-2, dim2=-1).sum(-1)

    def color(self, noise: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        return torch.einsum("bij,sbj->sbi", self.factor, noise)

    def whiten(self, offset: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        return _solve_each(self.factor, offset)


@dataclass(frozen=True, eq=False)
class PrecisionGaussian(GaussianPosterior):
    """``N(loc, (L L')^-1)`` with L lower triangular: draws are ``loc + L'^-1 noise`` and no inverse is formed.

    Its tensors are ``loc`` and ``packed``, L with the logarithm of its diagonal.

    Example:
        >>> import torch
        >>> q = PrecisionGaussian(torch.zeros(1, 2), 2 * torch.eye(2).expand(1, 2, 2))
        >>> q.variance.tolist()
        [[0.25, 0.25]]
    """

    loc: Float[Tensor, "B D"]
    factor: Float[Tensor, "B D D"]
    """L, the lower Cholesky factor of the precision, with a positive diagonal."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {"loc": self.loc, "packed": pack(self.factor)}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "PrecisionGaussian":
        return type(self)(tensors["loc"], unpack(tensors["packed"]))

    @property
    def precision(self) -> Float[Tensor, "B D D"]:
        """``L L'``."""
        return self.factor @ self.factor.mT

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return torch.cholesky_inverse(self.factor)

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        eye = torch.eye(self.loc.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        return solve_lower(self.factor, eye.expand_as(self.factor)).square().sum(-2)

    @property
    def half_log_det(self) -> Float[Tensor, " B"]:
        return -half_log_det(self.factor)

    def color(self, noise: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        return _solve_each(self.factor, noise, transposed=True)

    def whiten(self, offset: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        return torch.einsum("bji,sbj->sbi", self.factor, offset)


def pack(factor: Float[Tensor, "*B D D"]) -> Float[Tensor, "*B D D"]:
    """A lower factor with the logarithm of its diagonal: unconstrained."""
    return factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1).log())


def unpack(packed: Float[Tensor, "*B D D"]) -> Float[Tensor, "*B D D"]:
    """The lower factor with its positive diagonal; what stands above the diagonal is not read."""
    return packed.tril(-1) + torch.diag_embed(packed.diagonal(dim1=-2, dim2=-1).exp())


def _solve_each(
    factor: Float[Tensor, "B D D"], vectors: Float[Tensor, "S B D"], transposed: bool = False
) -> Float[Tensor, "S B D"]:
    """``L^-1 v`` or ``L'^-1 v`` for S vectors of each example."""
    return solve_lower(factor, vectors.permute(1, 2, 0), transposed).permute(2, 0, 1)


def block_sums(each: Float[Tensor, "*B D"], blocks: tuple[int, ...]) -> Float[Tensor, "*B L"]:
    """Sums over the dimensions of each block."""
    return torch.stack([part.sum(-1) for part in each.split(blocks, dim=-1)], dim=-1)
