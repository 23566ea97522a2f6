"""The energy of predictive coding: what each layer's state differs from its prediction by."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.objectives.objective import Bound, Kind, log_weights
from curvae.posteriors import Posterior, ProductPosterior, kl
from curvae.priors import layered
from curvae.typing import Batch


@dataclass(frozen=True)
class PredictiveEnergy:
    """``-F``, ``F = sum_k KL(q_k || p_k(z_k | mean of the layer above)) - log p(x | mean of the last layer)``.

    It is the negative ELBO of q with every function of a draw taken at the mean instead, so it is no bound of log p(x):
    the ELBO by ``samples`` draws is reported, without gradient.

    Info: ``energy`` (B,), F in nats.

    Reference: Pinchetti, Salvatori, Yordanov, Millidge, Song and Lukasiewicz, *Predictive Coding beyond Gaussian
    Distributions*, NeurIPS 2022, arXiv:2211.03481.

    Example:
        >>> PredictiveEnergy().kind
        'none'
    """

    kind: ClassVar[Kind] = "none"

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        energy = energies(model, posterior, batch).sum(-1)
        with torch.no_grad():
            draws = posterior.draw(samples)
            value = (draws.log_c.exp() * log_weights(model, batch, draws)).sum(0)
        return Bound(value, -energy, {"energy": energy.detach()})


def energies(model: LatentVariableModel, posterior: Posterior, batch: Batch) -> Float[Tensor, "B terms"]:
    """The terms of F in nats: the divergence of each layer, and ``-log p(x | z)`` at the mean.

    Raises:
        ValueError: a posterior whose divergence from the prior is not known in closed form.
    """
    if isinstance(posterior, ProductPosterior):
        rate = layered(model.prior).divergences(posterior)
    else:
        rate = kl(posterior, model.prior)
    if rate is None:
        raise ValueError(
            f"PredictiveEnergy: the divergence of {type(posterior).__name__} from {type(model.prior).__name__} must "
            "have a closed form; use elbo."
        )
    fit = model.log_likelihood(batch.x, posterior.mean.unsqueeze(0), batch.mask)[0]
    return torch.cat([rate, -fit.unsqueeze(-1)], dim=-1)
