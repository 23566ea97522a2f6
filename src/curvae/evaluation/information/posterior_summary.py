"""What the posteriors of a batch say beside the likelihood: divergence, use of each dimension, reconstruction."""

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from curvae.data import Transform
from curvae.distributions import normal_kl
from curvae.inference import Inferred
from curvae.latents import Axes
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior, Posterior, kl, rotated, typical
from curvae.priors import Prior, StandardNormal
from curvae.systems import CanReconstruct
from curvae.typing import Batch

KL_DRAWS = 64
"""Draws for a divergence without a closed form."""


def describe(
    model: LatentVariableModel, inferred: Inferred, batch: Batch, transform: Transform, axes: Axes | None = None
) -> dict[str, NDArray]:
    """For each datum: ``kl`` (nats), ``mean`` (B, D), ``kl_each`` (B, D, Gaussian q and standard normal prior only),
    ``squared_error`` (data units, summed over observed elements; NaN for categorical data) and ``status``.

    Mean and divergence of each latent are those in ``axes``, where there are some.

    Example:
        >>> import numpy as np
        >>> from curvae.data.transforms import Identity
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 5), Gaussian(5))
        >>> batch = Batch(torch.zeros(3, 5), torch.arange(3))
        >>> with torch.no_grad():
        ...     inferred = AmortizedGaussian(torch.nn.Linear(5, 4))(model, batch)
        ...     found = describe(model, inferred, batch, Identity())
        >>> bool(np.allclose(found["kl"], found["kl_each"].sum(1), atol=1e-5))   # a diagonal q: nothing is shared
        True
    """
    posterior = inferred.posterior
    reported = posterior if axes is None else rotated(posterior, axes.rotation)
    mean = reported.mean
    status = inferred.info.get("status", torch.zeros(len(mean), dtype=torch.long))
    found = {
        "kl": divergence(posterior, model.prior),
        "mean": mean,
        "squared_error": squared_error(model, typical(posterior), batch, transform),
        "status": status,
    }
    each = divergence_each(reported, model.prior)
    found |= {} if each is None else {"kl_each": each}
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def divergence(posterior: Posterior, prior: Prior) -> Float[Tensor, " B"]:
    """``KL(q(z | x) || p(z))`` in nats: in closed form where there is one, else from 64 draws."""
    closed = kl(posterior, prior)
    if closed is not None:
        return closed.sum(-1)
    draws = posterior.draw(KL_DRAWS)
    return (draws.log_c.exp() * (draws.log_q - prior.log_prob(draws.z))).sum(0)


def divergence_each(posterior: Posterior, prior: Prior) -> Float[Tensor, "B D"] | None:
    """``KL(q(z_d | x) || p(z_d))`` of each marginal: ``1/2 (m^2 + v - 1 - log v)``; None where it is not closed.

    For a full covariance the sum over d is less than the divergence of the whole by the total correlation of q.
    """
    if not (isinstance(posterior, GaussianPosterior) and isinstance(prior, StandardNormal)):
        return None
    return normal_kl(posterior.mean, 0.5 * posterior.variance.log())


def rebuilt(system: CanReconstruct, batch: Batch) -> Tensor:
    """Reconstructions of a batch, in model space, from what of it is observed and finite."""
    finite = batch.x.isfinite()
    seen = finite if batch.mask is None else finite & batch.mask
    return system.reconstruct(batch.x, None if bool(seen.all()) else seen)


def squared_error(
    model: LatentVariableModel, z: Float[Tensor, "B D"], batch: Batch, transform: Transform
) -> Float[Tensor, " B"]:
    """``|x - E[x | z]|^2`` in data units over observed elements; NaN for categorical data."""
    mean = model.likelihood.mean(model.decode(z, batch.x))
    x = batch.x.reshape(len(z), *model.likelihood.event)
    if mean.shape != x.shape:
        return torch.full((len(z),), torch.nan)
    event = batch.x.shape
    error = (transform.inverse(mean.reshape(event)) - transform.inverse(batch.x)).square()
    return (error if batch.mask is None else torch.where(batch.mask, error, 0)).flatten(1).sum(1)
