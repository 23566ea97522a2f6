"""Kullback-Leibler divergences with a closed form."""

from math import log

from jaxtyping import Float
from torch import Tensor, cholesky_inverse, eye, stack

from curvae.posteriors.discrete import DiscretePosterior
from curvae.posteriors.gaussian import DiagonalGaussian, GaussianPosterior
from curvae.posteriors.posterior import Posterior
from curvae.posteriors.rank_one import RankOneGaussian
from curvae.priors import AggregateNormal, Prior, StandardNormal, UniformCategorical


def kl(posterior: Posterior, prior: Prior) -> Float[Tensor, "B blocks"] | None:
    """``KL(q(z | x) || p(z))`` in nats for each block of z, or None where no closed form is known.

    For a Gaussian q and a standard normal prior it is ``1/2 (|mean|^2 + tr C - D - log det C)``; a full covariance
    does not split over several blocks, one of rank 1 in each does. For a prior N(m, S) it is
    ``1/2 (tr S^-1 C + |mean - m|^2_S^-1 - D + log det S - log det C)``, for a discrete q and the uniform prior
    ``N log K - entropy``.

    Example:
        >>> import torch
        >>> from curvae.posteriors import DiagonalGaussian
        >>> kl(DiagonalGaussian(torch.ones(1, 2), torch.zeros(1, 2)), StandardNormal(2)).tolist()
        [[1.0]]
    """
    match posterior, prior:
        case DiagonalGaussian(), StandardNormal():
            each = 0.5 * (posterior.loc.square() + posterior.variance - 1) - posterior.log_scale
            return stack([part.sum(-1) for part in each.split(prior.blocks, dim=-1)], dim=-1)
        case RankOneGaussian(), StandardNormal() if posterior.blocks == prior.blocks:
            each = 0.5 * (posterior.loc.square() + posterior.variance - 1)
            return stack([part.sum(-1) for part in each.split(prior.blocks, dim=-1)], dim=-1) - posterior.half_log_dets
        case GaussianPosterior(), StandardNormal() if len(prior.blocks) == 1:
            spread = (posterior.loc.square() + posterior.variance - 1).sum(-1)
            return (0.5 * spread - posterior.half_log_det).unsqueeze(-1)
        case GaussianPosterior(), AggregateNormal():
            return _to_normal(posterior, prior).unsqueeze(-1)
        case DiscretePosterior(), UniformCategorical():
            return (prior.variables * log(prior.categories) - posterior.entropy).unsqueeze(-1)
        case _:
            return None


def kl_between(q: GaussianPosterior, p: GaussianPosterior) -> Float[Tensor, " B"]:
    """``KL(q || p)`` of two Gaussians for each datum, in nats.

    ``1/2 (|C_p^-1 C_q|^2 + |C_p^-1 (m_q - m_p)|^2 - D) + 1/2 log det p - 1/2 log det q``, D draws' worth of work.

    Example:
        >>> import torch
        >>> from curvae.posteriors import DiagonalGaussian
        >>> q, p = (DiagonalGaussian(torch.full((1, 2), m), torch.zeros(1, 2)) for m in (0.0, 1.0))
        >>> kl_between(q, p).tolist()
        [1.0]
    """
    count, size = q.mean.shape
    axes = eye(size, dtype=q.mean.dtype, device=q.mean.device).unsqueeze(1).expand(-1, count, -1)
    spread = p.whiten(q.color(axes)).square().sum((0, 2))
    offset = p.whiten((q.mean - p.mean).unsqueeze(0)).square().sum((0, 2))
    return 0.5 * (spread + offset - size) + p.half_log_det - q.half_log_det


def _to_normal(posterior: GaussianPosterior, prior: AggregateNormal) -> Float[Tensor, " B"]:
    factor = prior.factor
    precision = cholesky_inverse(factor)
    offset = posterior.loc - prior.mean
    trace = (posterior.covariance * precision).sum((-2, -1))
    spread = trace + ((offset @ precision) * offset).sum(-1) - prior.size
    return 0.5 * spread + factor.diagonal().log().sum() - posterior.half_log_det
