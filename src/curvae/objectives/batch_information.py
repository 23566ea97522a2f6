"""The ELBO as an expectation over a batch: the prior is the aggregate of the batch's posteriors."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives.elbo import kl_or_estimate, reconstruction_and_kl
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import GaussianPosterior, Posterior
from curvae.priors import AggregateNormal
from curvae.typing import EMPTY, Batch, State


class AggregateMoments(NamedTuple):
    """The normal that has the moments of the mixture of a batch's posteriors."""

    mean: Float[Tensor, " D"]
    covariance: Float[Tensor, "D D"]
    information: Float[Tensor, ""]
    """``1/2 log det covariance - mean_i 1/2 log det C_i``, nats: the mean KL to that normal."""


@dataclass(frozen=True)
class BatchInformation:
    """``E_q[log p(x | z)] - (1/2 log det(C + Cov_batch mean) - 1/2 log det C)``, C the posterior covariance.

    It is the batch mean of the ELBO under the best normal prior for that batch; with unit posterior variance the second
    term is ``1/2 log det(I + Cov_batch mean(x))``. That prior knows the batch, so this only trains. What is reported is
    the ELBO under the model's own prior, whose frozen moments are a running average over training batches
    (:class:`curvae.priors.AggregateNormal`; any other prior is left as it is).

    Batch coupling: the information is that of the batch at hand, of each process where there are several. A batch of
    one example has no covariance between data. Batches should be several times larger than D.

    Args:
        unbiased: divide the covariance by B - 1 instead of B.

    Raises:
        ValueError: a posterior that is not one of the Gaussians.

    Reference: after Fyffe, *There and Back Again*, arXiv:1912.10309 (BILBO).
    Differences: the formula is derived from the paper's abstract, not taken from its text.

    Example:
        >>> from curvae.posteriors import DiagonalGaussian
        >>> q = DiagonalGaussian(torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1))
        >>> f"{aggregate_moments(q, unbiased=False).information.item():.4f}"   # 1/2 log(1 + 1)
        '0.3466'
    """

    unbiased: bool = True
    kind: ClassVar[Kind] = "lower"

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        whole = aggregate_moments(posterior, self.unbiased)
        fit, rate = reconstruction_and_kl(model, posterior, batch, samples)
        info = {"kl": rate.detach(), "information": whole.information.detach()}
        return Bound(fit - rate, fit - whole.information, info, _state(model, whole))


@dataclass(frozen=True)
class BatchLikelihood:
    """``-1/2 sum_j log((r_j + floor v_j) / v_j)`` less the batch information: fit and data are measured by their ratio.

    ``r_j`` is the mean square error of element j over the batch and its draws, ``v_j`` its variance over the batch. The
    first term is a Gaussian log-likelihood with the best variance, bounded by ``-1/2 log floor`` an element and blind
    to the scale of the data. It only trains the networks: the likelihood's own variance learns from its own
    log-density with the decoder held fixed, and the ELBO under that variance and the model's frozen prior is reported.
    An element that does not vary in the batch is left out.

    Batch coupling: as in :class:`BatchInformation`.

    Args:
        floor: kappa, the share of an element's variance below which an error no longer counts.
        unbiased: divide the covariance of the means by B - 1 instead of B.

    Raises:
        ValueError: floor not positive, a likelihood that is not ``Gaussian``, or a posterior that is no Gaussian.

    Reference: after Fyffe, *There and Back Again*, arXiv:1912.10309 (BAGGINS).
    Differences: the paper's formula is not known to us; this is a substitute with the properties that its abstract
    names, bounded, invariant to the scale of the data, and formed from the batch as a whole.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])                       # variance 1 (over B), error 1
        >>> f"{batch_likelihood(x, torch.ones(1, 2, 1), None, 0.5).item():.4f}"   # -1/2 log(1.5)
        '-0.2027'
    """

    floor: float = 1e-3
    unbiased: bool = True
    kind: ClassVar[Kind] = "lower"

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError(f"BatchLikelihood: floor must be positive; got {self.floor}.")

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        likelihood = model.likelihood
        if not isinstance(likelihood, Gaussian):
            raise ValueError(
                f"BatchLikelihood: expects a Gaussian likelihood; got {type(likelihood).__name__}. Use "
                "BatchInformation()."
            )
        whole, draws = aggregate_moments(posterior, self.unbiased), posterior.draw(samples)
        eta = model.decode(draws.z, batch.x)
        mask = None if batch.mask is None else likelihood.flat(batch.mask)
        learned = batch_likelihood(likelihood.flat(batch.x), eta, mask, self.floor) - whole.information
        fit = (draws.log_c.exp() * likelihood.log_prob(batch.x, eta.detach(), batch.mask)).sum(0)
        rate = kl_or_estimate(model, posterior, draws)
        info = {"kl": rate.detach(), "information": whole.information.detach()}
        return Bound(fit - rate, learned + (fit - fit.detach()), info, _state(model, whole))


def aggregate_moments(posterior: Posterior, unbiased: bool = True) -> AggregateMoments:
    """Moments of the mixture of a batch's posteriors, and the mean KL of the posteriors to the normal that has them.

    Raises:
        ValueError: a posterior that is not one of the Gaussians.
    """
    if not isinstance(posterior, GaussianPosterior):
        raise ValueError(
            f"batch information: expects a Gaussian posterior; got {type(posterior).__name__}. Use AmortizedMean or "
            "AmortizedGaussian."
        )
    count = len(posterior.loc)
    mean = posterior.loc.mean(0)
    offset = posterior.loc - mean
    between = offset.mT @ offset / max(1, count - 1 if unbiased else count)
    covariance = posterior.covariance.mean(0) + between
    half_log_det = torch.linalg.cholesky_ex(covariance)[0].diagonal().log().sum()
    return AggregateMoments(mean, covariance, half_log_det - posterior.half_log_det.mean())


def batch_likelihood(
    x: Float[Tensor, "B P"], eta: Float[Tensor, "S B P"], mask: Tensor | None, floor: float
) -> Float[Tensor, ""]:
    """``-1/2 sum_j log((r_j + floor v_j) / v_j)``, nats; what is not observed counts in neither moment."""
    seen = torch.ones_like(x) if mask is None else mask.to(x.dtype)
    count = seen.sum(0).clamp(min=1)
    center = (x * seen).sum(0) / count
    variance = ((x - center).square() * seen).sum(0) / count
    error = ((x - eta).square().mean(0) * seen).sum(0) / count
    varies = variance > 0
    ratio = torch.where(varies, error, 1.0) / torch.where(varies, variance, 1.0)
    return -0.5 * torch.where(varies, (ratio + floor).log(), 0.0).sum()


def _state(model: LatentVariableModel, whole: AggregateMoments) -> State:
    """New moments of the model's prior, where it has any, by their names in the system."""
    if not isinstance(model.prior, AggregateNormal):
        return EMPTY
    return {f"model.prior.{name}": value for name, value in model.prior.toward(whole.mean, whole.covariance).items()}
