"""What posteriors say beside the likelihood: divergence, use of each latent, reconstruction; and how it is told."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from curvae.data import Transform
from curvae.distributions import normal_kl
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.formatting import format_number
from curvae.inference import Inferred
from curvae.latents import Axes
from curvae.likelihoods import nominal_columns
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior, Posterior, kl, representative_point, rotated
from curvae.priors import Prior, StandardNormal
from curvae.systems import CanReconstruct
from curvae.typing import Batch

if TYPE_CHECKING:
    from curvae.evaluation.results import Evaluation

KL_DRAWS = 64
"""Draws for a divergence without a closed form."""
ACTIVE = 1e-2
"""Least variance over data of the posterior mean of an active unit (Burda, Grosse and Salakhutdinov, 2016)."""
ENDS = {
    "max_steps": "it ran out of steps more than a tenth of a nat from the mode",
    "not_psd": "the precision needed jitter",
    "nonfinite": "a value was not finite",
}
"""What a status that is :func:`curvae.curvature.not_ok` means, in words."""
NOT_OK = f"did not end well ({', or '.join(ENDS.values())})"
"""Of a mode search, in training as in evaluation; a search that ends at a kink of the decoder is ok."""


def posterior_statistics(
    model: LatentVariableModel, inferred: Inferred, batch: Batch, transform: Transform, axes: Axes | None = None
) -> dict[str, NDArray]:
    """For each example: ``kl`` (nats), ``mean`` (B, D), ``kl_each`` (B, D, Gaussian q and standard normal prior only),
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
        ...     found = posterior_statistics(model, inferred, batch, Identity())
        >>> bool(np.allclose(found["kl"], found["kl_each"].sum(1), atol=1e-5))   # a diagonal q: nothing is shared
        True
    """
    posterior, model = inferred.posterior, model.given(batch.context)
    reported = posterior if axes is None else rotated(posterior, axes.rotation)
    mean = reported.mean
    status = inferred.info.get("status", torch.zeros(len(mean), dtype=torch.long))
    found = {
        "kl": kl_to_prior(posterior, model.prior),
        "mean": mean,
        "squared_error": squared_error(model, representative_point(posterior), batch, transform),
        "status": status,
    }
    each = marginal_kl_to_prior(reported, model.prior)
    found |= {} if each is None else {"kl_each": each}
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def kl_to_prior(posterior: Posterior, prior: Prior) -> Float[Tensor, " B"]:
    """``KL(q(z | x) || p(z))`` in nats: in closed form where there is one, else from 64 draws."""
    closed = kl(posterior, prior)
    if closed is not None:
        return closed.sum(-1)
    draws = posterior.draw(KL_DRAWS)
    return (draws.log_c.exp() * (draws.log_q - prior.log_prob(draws.z))).sum(0)


def marginal_kl_to_prior(posterior: Posterior, prior: Prior) -> Float[Tensor, "B D"] | None:
    """``KL(q(z_d | x) || p(z_d))`` of each marginal: ``1/2 (m^2 + v - 1 - log v)``; None where it is not closed.

    For a full covariance the sum over d is less than the divergence of the whole by the total correlation of q.
    """
    if not (isinstance(posterior, GaussianPosterior) and isinstance(prior, StandardNormal)):
        return None
    return normal_kl(posterior.mean, 0.5 * posterior.variance.log())


def reconstruct_observed(system: CanReconstruct, batch: Batch) -> Tensor:
    """Reconstructions of a batch, in model space, from what of it is observed and finite."""
    finite = batch.x.isfinite()
    seen = finite if batch.mask is None else finite & batch.mask
    more = {} if batch.given is None else {"context": batch.given}
    return system.reconstruct(batch.x, None if bool(seen.all()) else seen, **more)


def squared_error(
    model: LatentVariableModel, z: Float[Tensor, "B D"], batch: Batch, transform: Transform
) -> Float[Tensor, " B"]:
    """``|x - E[x | z]|^2`` in data units over observed elements.

    NaN for categorical data, and where the decoder sees x itself: what it expects of an element, given those before,
    says little about the latents.
    """
    if model.autoregressive:
        return torch.full((len(z),), torch.nan)
    mean = model.likelihood.mean(model.decode(z, batch.x))
    x = batch.x.reshape(len(z), *model.likelihood.event)
    if mean.shape != x.shape or nominal_columns(model.likelihood):
        return torch.full((len(z),), torch.nan)
    event = batch.x.shape
    error = (transform.inverse(mean.reshape(event)) - transform.inverse(batch.x)).square()
    return (error if batch.mask is None else torch.where(batch.mask, error, 0)).flatten(1).sum(1)


def summarize_latents(used: dict[str, NDArray]) -> dict[str, Any]:
    """The fields of an evaluation that are about its latents, from :func:`posterior_statistics` of all data."""
    if "mean" not in used or len(used["mean"]) == 0:
        return {}
    activity = used["mean"].astype(np.float64).var(0) if len(used["mean"]) > 1 else None
    error = used["squared_error"].astype(np.float64).sum() / max(1, used["size"].sum())
    each = used["kl_each"].mean(0, dtype=np.float64).tolist() if "kl_each" in used else None
    return {
        "kl": Estimate.of(used["kl"].astype(np.float64)),
        "kl_per_dimension": None if each is None else tuple(each),
        "active_units": None if activity is None else int((activity > ACTIVE).sum()),
        "activity": None if activity is None else tuple(activity.tolist()),
        "reconstruction_error": float(np.sqrt(error)) if np.isfinite(error) else None,
    }


def activity_row(found: "Evaluation") -> Iterator[tuple[str, str]]:
    """Of the printed table."""
    if found.activity is not None:
        yield "active latent dimensions", f"{found.active_units} of {len(found.activity)}"


def error_row(found: "Evaluation") -> Iterator[tuple[str, str]]:
    """Of the printed table."""
    if found.reconstruction_error is not None:
        yield "reconstruction error (RMS)", f"{found.reconstruction_error:.4g}"


def posterior_warnings(found: "Evaluation") -> Iterator[str]:
    """Of latents that say nothing, and of mode searches that are not ok."""
    if found.activity is not None and found.active_units != len(found.activity):
        idle = len(found.activity) - (found.active_units or 0)
        yield (
            f"{idle} of {len(found.activity)} latent dimensions are collapsed: their posterior mean varies by less "
            f"than {ACTIVE} over the data."
        )
    if found.status:
        ends = "; ".join(f"{ENDS.get(name, name)} for {share:.1%}" for name, share in found.status.items())
        yield f"The mode search of the system's own inference fell short for part of the data: {ends}."


def posterior_report_rows(found: "Evaluation") -> Iterator[tuple[str, str, str]]:
    """Rows of the report."""
    if found.active_units is not None:
        of = f" of {len(found.activity)}" if found.activity else ""
        text = f"Latents whose posterior mean varies over the data with a variance above {ACTIVE:g}."
        yield "Active units", f"{found.active_units}{of}", text
    if found.reconstruction_error is not None:
        text = "Root mean square error of the decoded posterior mean, in the data’s own units."
        yield "Reconstruction error", format_number(found.reconstruction_error), text
