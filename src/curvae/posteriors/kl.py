"""Kullback-Leibler divergences with a closed form."""

from jaxtyping import Float
from torch import Tensor, stack

from curvae.posteriors.gaussian import DiagonalGaussian, GaussianPosterior
from curvae.posteriors.posterior import Posterior
from curvae.priors import Prior, StandardNormal


def kl(posterior: Posterior, prior: Prior) -> Float[Tensor, "B blocks"] | None:
    """``KL(q(z | x) || p(z))`` in nats for each block of z, or None where no closed form is known.

    For a Gaussian q and a standard normal prior it is ``1/2 (|mean|^2 + tr C - D - log det C)``; a full covariance
    does not split over several blocks.

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
        case GaussianPosterior(), StandardNormal() if len(prior.blocks) == 1:
            spread = (posterior.loc.square() + posterior.variance - 1).sum(-1)
            return (0.5 * spread - posterior.half_log_det).unsqueeze(-1)
        case _:
            return None
