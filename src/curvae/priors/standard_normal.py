"""The standard normal prior."""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import DiagonalGaussian, GaussianPosterior, block_sums
from curvae.distributions.kl import normal_kl, register_kl
from curvae.distributions.rank_one import RankOneGaussian
from curvae.linalg import standard_normal_log_prob
from curvae.priors.prior import Prior


class StandardNormal(Prior):
    """``p(z) = N(z; 0, I)``.

    Args:
        size: number of latent dimensions D.
        blocks: sizes of the layers of z, summing to ``size``; one block if not given.

    Raises:
        ValueError: ``blocks`` do not sum to ``size``, or a size below 1.

    Example:
        >>> import torch
        >>> prior = StandardNormal(2)
        >>> f"{prior.log_prob(torch.zeros(2)):.4f}"
        '-1.8379'
        >>> prior.sample(5).shape
        torch.Size([5, 2])
    """

    quadratic = True
    origin: Tensor

    def __init__(self, size: int, blocks: tuple[int, ...] | None = None):
        super().__init__()
        self.blocks = (size,) if blocks is None else tuple(blocks)
        if size < 1 or sum(self.blocks) != size:
            raise ValueError(f"StandardNormal: blocks must be sizes >= 1 that sum to size={size}; got {self.blocks}.")
        self.register_buffer("origin", torch.zeros(size), persistent=False)

    def start_from(self, deviation: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        return torch.ones_like(deviation)

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return standard_normal_log_prob(z)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        return torch.randn(n, self.size, generator=generator, device=self.origin.device, dtype=self.origin.dtype)

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return -z

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        eye = torch.eye(self.size, dtype=z.dtype, device=z.device)
        return eye.expand(*z.shape, self.size)


@register_kl(DiagonalGaussian, StandardNormal)
def _diagonal(q: DiagonalGaussian, p: StandardNormal) -> Float[Tensor, "*B L"]:
    return block_sums(normal_kl(q.loc, q.log_scale), p.blocks)


@register_kl(RankOneGaussian, StandardNormal)
def _rank_one(q: RankOneGaussian, p: StandardNormal) -> Float[Tensor, "B L"] | None:
    return _correlated(q, p.blocks, q.half_log_dets) if q.blocks == p.blocks else _full(q, p)


@register_kl(GaussianPosterior, StandardNormal)
def _full(q: GaussianPosterior, p: StandardNormal) -> Float[Tensor, "B L"] | None:
    """A full covariance does not split over several blocks."""
    return _correlated(q, p.blocks, q.half_log_det.unsqueeze(-1)) if len(p.blocks) == 1 else None


def _correlated(
    q: GaussianPosterior, blocks: tuple[int, ...], half_log_dets: Float[Tensor, "B L"]
) -> Float[Tensor, "B L"]:
    """``1/2 (|mean|^2 + tr C - D - log det C)`` of each block."""
    return block_sums(0.5 * (q.loc.square() + q.variance - 1), blocks) - half_log_dets
