"""Draws of latents weighted to p(z | what was observed of x): the engines of imputation. One function, one engine.

An engine takes a system with a model, a batch whose mask says what was observed, and a number of draws; whatever it
draws from, its weights are those of ``p(z | x_observed)``, so every engine gives the same law with enough draws. Where
few draws carry the weight, another one is asked (:func:`curvae.evaluation.conditionals`).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.evaluation.likelihood.proposal import common_proposal
from curvae.model import LatentVariableModel
from curvae.objectives import log_weights
from curvae.posteriors import Posterior
from curvae.systems import HasModel
from curvae.typing import Batch, PerDatum


class WeightedLatents(NamedTuple):
    """S draws of the latents of each example, and what each counts."""

    z: Float[Tensor, "S B D"]
    log_w: Float[Tensor, "S B"]
    """``logsumexp(log_w, 0) = 0``; all the same where no weight is finite."""
    effective: PerDatum
    """``1 / sum_s w_s^2``: so many draws of equal weight say as much. 0 where no weight is finite, infinite where z
    takes every state there is."""

    @classmethod
    def of(cls, z: Float[Tensor, "S B D"], log_w: Float[Tensor, "S B"], exact: bool = False) -> "WeightedLatents":
        """With these weights up to a constant; one that is not finite counts nothing."""
        log_w = torch.where(log_w.isnan() | (log_w == torch.inf), -torch.inf, log_w)
        finite = log_w.isfinite().any(0)
        log_w = torch.where(finite, log_w, 0.0).log_softmax(0)
        effective = torch.full_like(log_w[0], torch.inf) if exact else (1 / (2 * log_w).exp().sum(0)).clamp(max=len(z))
        return cls(z, log_w, torch.where(finite, effective, 0.0))

    def resampled(self, count: int) -> Float[Tensor, "M B D"]:
        """So many draws of equal weight, with replacement (sampling importance resampling)."""
        if not count:
            return self.z[:0]
        chosen = torch.multinomial(self.log_w.exp().mT, count, replacement=True).mT
        return self.z.gather(0, chosen.unsqueeze(-1).expand(-1, -1, self.z.shape[-1]))


Engine = Callable[[HasModel, Batch, int], WeightedLatents]
"""``(system, batch, draws) -> WeightedLatents``; draws come from torch's own generator."""


def from_encoder(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """From the system's own posterior of what was observed, whether or not it was trained with a mask.

    Example:
        >>> from curvae.systems import vae
        >>> from curvae.typing import DataSpec
        >>> x, mask = torch.randn(3, 5), torch.tensor([True, True, True, False, False]).expand(3, 5)
        >>> with torch.no_grad():
        ...     found = from_encoder(vae(DataSpec((5,)), latent=2, hidden=8), Batch.of(x * mask, mask), 100)
        >>> found.z.shape, bool((found.effective <= 100 + 1e-3).all())
        (torch.Size([100, 3, 2]), True)
    """
    parts = system.parts()
    posterior = parts.infer(batch).posterior
    return _weighted(parts.model, batch, posterior, draws)


def from_modes(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """From Laplace posteriors at the modes of ``p(z | x_observed)``, widened: the evaluator's common proposal.

    It sees the mask in the likelihood alone, so it serves where an encoder has never seen a missing value.

    Raises:
        ValueError: discrete latents, which have no curvature.
    """
    model = system.parts().model
    return _weighted(model, batch, common_proposal(system)(model, batch).posterior, draws)


def from_prior(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """From the prior, weighted by ``p(x_observed | z)``: exact where nothing was observed."""
    model = system.parts().model
    z = model.prior.sample(draws * len(batch.x)).unflatten(0, (draws, -1))
    return WeightedLatents.of(z, model.log_likelihood(batch.x, z, batch.mask))


def _weighted(model: LatentVariableModel, batch: Batch, q: Posterior, draws: int) -> WeightedLatents:
    """``w_s = c_s p(x_observed, z_s) / q(z_s)``, of about so many draws in all, or of every state."""
    found = q.draw(max(1, draws // q.count(1)))
    return WeightedLatents.of(found.z, found.log_c + log_weights(model, batch, found), q.count(1) == q.count(2))
