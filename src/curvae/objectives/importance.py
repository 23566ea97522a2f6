"""Importance-weighted bounds."""

from curvae.model import LatentVariableModel
from curvae.objectives.objective import Bound, log_mean_exp, log_weights
from curvae.posteriors import Posterior
from curvae.typing import Batch


def iwae(model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 50) -> Bound:
    """``log sum_s exp(log_c_s + log w_s)``, for plain draws ``log 1/S sum_s w_s`` (Burda et al., ICLR 2016).

    A lower bound of log p(x) in expectation that rises with the number of draws; with one draw it is the ELBO.

    Raises:
        ValueError: a posterior without path gradients, whose score this bound does not carry.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> iwae(model, q, Batch(torch.zeros(4, 3), torch.arange(4)), 5).value.shape
        torch.Size([4])
    """
    draws = posterior.draw(samples)
    if draws.score is not None:
        raise ValueError(f"iwae: expects a posterior with path gradients; got {type(posterior).__name__}. Use elbo.")
    value = log_mean_exp(log_weights(model, batch, draws), draws.log_c)
    return Bound(value, value)
