"""Draws of latents weighted to p(z | what was observed of x): the engines of imputation. One function, one engine.

An engine takes a system with a model, a batch whose mask says what was observed, and a number of draws; whatever it
draws from, its weights are those of ``p(z | x_observed)``, so every engine gives the same law with enough draws. Where
few draws carry the weight, another one is asked (:func:`draw_latents`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae.evaluation.likelihood.importance import log_ratio_to_mixture
from curvae.evaluation.likelihood.proposal import SEVERAL, common_proposal, widen, width_for
from curvae.evaluation.likelihood.weighted_draws import rows_of_batch
from curvae.model import LatentVariableModel
from curvae.objectives import log_weights
from curvae.posteriors import DensityPosterior, Mixture, Posterior
from curvae.systems import HasModel
from curvae.typing import Batch, PerDatum

ENOUGH = 0.2
"""Share of the draws that is effective, below which a further engine is asked."""


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

    def replaced(
        self, rows: Bool[Tensor, " B"], draw: "Callable[[Batch, int], WeightedLatents]", batch: Batch, draws: int
    ) -> "WeightedLatents":
        """With other draws for some rows, where these leave more of them effective."""
        if not bool(rows.any()):
            return self
        at = rows.nonzero()[:, 0]
        again = draw(rows_of_batch(batch, at), draws)
        better = again.effective > self.effective[at]
        size = max(len(self.z), len(again.z))
        z, log_w, effective = _longer(self.z, size, 0.0), _longer(self.log_w, size, -torch.inf), self.effective.clone()
        z[:, at[better]] = _longer(again.z, size, 0.0)[:, better]
        log_w[:, at[better]] = _longer(again.log_w, size, -torch.inf)[:, better]
        effective[at[better]] = again.effective[better]
        return WeightedLatents(z, log_w, effective)

    def resampled(self, count: int) -> Float[Tensor, "M B D"]:
        """So many draws of equal weight, with replacement (sampling importance resampling)."""
        if not count:
            return self.z[:0]
        chosen = torch.multinomial(self.log_w.exp().mT, count, replacement=True).mT
        return self.z.gather(0, chosen.unsqueeze(-1).expand(-1, -1, self.z.shape[-1]))


def _longer(value: Float[Tensor, "S ..."], size: int, fill: float) -> Float[Tensor, "T ..."]:
    """With rows of one value behind it, up to a size."""
    return torch.cat([value, value.new_full((size - len(value), *value.shape[1:]), fill)])


Engine = Callable[[HasModel, Batch, int], WeightedLatents]
"""``(system, batch, draws) -> WeightedLatents``; draws come from torch's own generator."""


def from_encoder(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """From the system's own posterior of what was observed.

    An encoder that was trained without gaps sees a 0 in their place, and may be so far off that its draws lie together
    in a tail, with weights that are alike and wrong. So it is not asked alone where there are modes.

    Example:
        >>> from curvae.systems import vae
        >>> from curvae.typing import DataSpec
        >>> x, mask = torch.randn(3, 5), torch.tensor([True, True, True, False, False]).expand(3, 5)
        >>> with torch.no_grad():
        ...     found = from_encoder(vae(DataSpec((5,)), latent=2, hidden=8), Batch.of(x * mask, mask), 100)
        >>> found.z.shape, bool((found.effective <= 100).all())
        (torch.Size([100, 3, 2]), True)
    """
    parts = system.parts()
    return _weighted(parts.model.given(batch.context), batch, parts.infer(batch).posterior, draws)


def from_modes(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """From Laplace posteriors at the modes of ``p(z | x_observed)``, widened: the evaluator's common proposal.

    It sees the mask in the likelihood alone, so it serves where an encoder has never seen a missing value.

    Raises:
        ValueError: discrete latents, which have no curvature.
    """
    model = system.parts().model.given(batch.context)
    return _weighted(model, batch, common_proposal(system)(model, batch).posterior, draws)


def from_one_mode(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """The same from a single search, which begins at the center of the system's own posterior: for many batches.

    Up to 64 latents it has the tails of the common proposal, which see what lies beyond a mode.

    Raises:
        ValueError: discrete latents, which have no curvature.
    """
    model = system.parts().model.given(batch.context)
    q = common_proposal(system, width=1.0, several=False)(model, batch).posterior
    if model.prior.size <= SEVERAL:
        q = Mixture((q,), torch.zeros(len(batch.x), 1).to(q.center))
    return _weighted(model, batch, widen(q, width_for(model.prior.size)), draws)


def from_modes_and_encoder(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """Half from the modes, half from the system's own posterior, weighted as draws of the mixture of both.

    So neither can spoil the weights of the other (a defensive mixture); from the modes alone where the density of the
    system's own posterior is not known.

    Raises:
        ValueError: discrete latents, which have no curvature.
    """
    parts = system.parts()
    model, own = parts.model.given(batch.context), parts.infer(batch).posterior
    common = common_proposal(system)(model, batch).posterior
    if not (isinstance(own, DensityPosterior) and isinstance(common, DensityPosterior)):
        return _weighted(model, batch, common, draws)
    z, log_w = [], []
    for q, other in ((own, common), (common, own)):
        drawn = q.draw(max(1, draws // 2 // q.count(1)))
        z.append(drawn.z)
        log_w.append(drawn.log_c + log_weights(model, batch, drawn) + log_ratio_to_mixture(drawn, other))
    return WeightedLatents.of(torch.cat(z), torch.cat(log_w))


def from_prior(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """From the prior, weighted by ``p(x_observed | z)``: exact where nothing was observed."""
    model = system.parts().model.given(batch.context)
    z = model.prior.sample(draws * len(batch.x)).unflatten(0, (draws, -1))
    return WeightedLatents.of(z, model.log_likelihood(batch.x, z, batch.mask))


def draw_latents(
    system: HasModel, batch: Batch, draws: int, engines: Sequence[Engine] = (from_modes, from_modes_and_encoder)
) -> WeightedLatents:
    """By the first engine; where it leaves fewer than a fifth of the draws, by the next, where that leaves more.

    Where nothing was observed, from the prior; of discrete latents from the system's own posterior.
    """
    first, *others = engines if system.parts().model.prior.continuous else (from_encoder,)
    found = first(system, batch, draws)
    for engine in others:
        found = found.replaced(found.effective < ENOUGH * draws, partial(engine, system), batch, draws)
    if batch.mask is None:
        return found
    return found.replaced(~batch.mask.flatten(1).any(1), partial(from_prior, system), batch, draws)


def _weighted(model: LatentVariableModel, batch: Batch, q: Posterior, draws: int) -> WeightedLatents:
    """``w_s = c_s p(x_observed, z_s) / q(z_s)``, of about so many draws in all, or of every state."""
    found = q.draw(max(1, draws // q.count(1)))
    return WeightedLatents.of(found.z, found.log_c + log_weights(model, batch, found), q.count(1) == q.count(2))
