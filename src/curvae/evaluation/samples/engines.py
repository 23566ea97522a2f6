"""Draws of latents weighted to p(z | what was observed of x): the engines of imputation. One function, one engine.

An engine takes a system with a model, a batch whose mask says what was observed, and a number of draws; whatever it
draws from, its weights are those of ``p(z | x_observed)``, so every engine gives the same law with enough draws. Where
few draws carry the weight, another one is asked (:func:`draw_latents`). A word names the engines that are asked.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae.distributions import GaussianPosterior
from curvae.evaluation.likelihood.importance import log_ratio_to_mixture
from curvae.evaluation.likelihood.proposal import SEVERAL, common_proposal, widen, width_for
from curvae.evaluation.likelihood.weighted_draws import rows_of_batch
from curvae.evaluation.samples.imputation import chain_states
from curvae.inference import hmc_chains
from curvae.model import LatentVariableModel
from curvae.objectives import log_weights
from curvae.posteriors import Chains, DensityPosterior, Mixture, Posterior
from curvae.systems import HasModel
from curvae.typing import Batch, PerDatum

ENOUGH = 0.2
"""Share of the draws that is effective, below which a further engine is asked."""
CHAINS, APART = 10, 4
"""Of each example; transitions between two states that are kept."""
HMC_CHAINS, STATES, WARMUP = 4, 250, 100
"""Of each example; states of each, at least, so that R-hat near 1 is seen; transitions in which a step is tuned."""


class WeightedLatents(NamedTuple):
    """S draws of the latents of each example, and what each counts."""

    z: Float[Tensor, "S B D"]
    log_w: Float[Tensor, "S B"]
    """``logsumexp(log_w, 0) = 0``; all the same where no weight is finite."""
    effective: PerDatum
    """``1 / sum_s w_s^2``: so many draws of equal weight say as much. 0 where no weight is finite, infinite where z
    takes every state there is. Of chains the least effective number of independent states among the latents."""
    r_hat: PerDatum | None = None
    """Of chains the largest split R-hat among the latents, infinite where one never moved; NaN of a row without."""

    @classmethod
    def of(cls, z: Float[Tensor, "S B D"], log_w: Float[Tensor, "S B"], exact: bool = False) -> "WeightedLatents":
        """With these weights up to a constant; one that is not finite counts nothing."""
        log_w = torch.where(log_w.isnan() | (log_w == torch.inf), -torch.inf, log_w)
        finite = log_w.isfinite().any(0)
        log_w = torch.where(finite, log_w, 0.0).log_softmax(0)
        effective = torch.full_like(log_w[0], torch.inf) if exact else (1 / (2 * log_w).exp().sum(0)).clamp(max=len(z))
        return cls(z, log_w, torch.where(finite, effective, 0.0))

    def reweighted(self, values: Float[Tensor, "S B E"], log_w: Float[Tensor, "S B"]) -> "WeightedLatents":
        """What each draw stands for in its place, weighted by more; of chains no more of them are effective then."""
        found = WeightedLatents.of(values, self.log_w + log_w)
        if self.r_hat is None:
            return found
        return found._replace(r_hat=self.r_hat, effective=torch.minimum(found.effective, self.effective))

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
        r_hat = self.r_hat
        if r_hat is not None or again.r_hat is not None:
            r_hat = torch.full_like(effective, torch.nan) if r_hat is None else r_hat.clone()
            r_hat[at[better]] = torch.nan if again.r_hat is None else again.r_hat[better]
        return WeightedLatents(z, log_w, effective, r_hat)

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


def from_chains(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """States of ten Markov chains of each example, as many thrown away before: Metropolis within Gibbs.

    ``z' ~ q(z | x)`` of the example as it is now completed is taken or not, then ``x_missing ~ p(x_missing | z)``, see
    :func:`curvae.evaluation.impute`. Nothing weighs such draws: whether they are those of ``p(z | x_observed)`` is seen
    from R-hat, how many they are worth from their effective number (Vehtari et al., 2021).

    Raises:
        ValueError: a posterior without a density.

    Reference: Mattei and Frellsen, *Leveraging the Exact Likelihood of Deep Latent Variable Models*, NeurIPS 2018.
    """
    steps = max(4, -(-draws // CHAINS))
    states = islice(chain_states(system.parts(), _with_mask(batch), CHAINS), APART * steps, 2 * APART * steps, APART)
    z = torch.stack([state.z for state in states])
    chains = Chains(z.permute(2, 1, 0, 3))
    found = WeightedLatents.of(z.flatten(0, 1), torch.zeros_like(z[..., 0]).flatten(0, 1))
    stuck = (z[1:] == z[:-1]).all(-1).all(0).any(0)
    r_hat = torch.where(stuck, torch.inf, chains.r_hat.amax(-1))
    effective = torch.where(stuck, 0.0, chains.ess.amin(-1).clamp(max=len(found.z)))
    return found._replace(r_hat=r_hat, effective=effective)


def from_hmc(system: HasModel, batch: Batch, draws: int) -> WeightedLatents:
    """States of four Hamiltonian chains of each example, in the units of a Laplace posterior.

    Where that is far from the law in many dimensions no draw of it has a weight worth having; a chain still moves, and
    about as easily as in a normal law. R-hat and the effective number are the worst among the latents.

    Raises:
        ValueError: discrete latents, which have no curvature.
    """
    model = system.parts().model.given(batch.context)
    q = common_proposal(system, width=1.0, several=False)(model, batch).posterior
    count = max(STATES, -(-draws // HMC_CHAINS))
    found, info = hmc_chains(
        model, batch, q, HMC_CHAINS, count, WARMUP, leapfrogs=3, dense=isinstance(q, GaussianPosterior)
    )[:2]
    z = found.tensors["states"].permute(1, 2, 0, 3).flatten(0, 1)
    made = WeightedLatents.of(z, torch.zeros_like(z[..., 0]))
    return made._replace(r_hat=info["r_hat"], effective=info["ess"].nan_to_num(0.0).clamp(max=len(z)))


ENGINES: dict[str, tuple[Engine, ...]] = {
    "modes": (from_modes, from_modes_and_encoder),
    "encoder": (from_encoder,),
    "chains": (from_chains,),
}
"""The first that is asked, and those that are where it leaves few draws effective."""


DISCRETE: tuple[Engine, ...] = (from_encoder, from_chains)
"""Those that serve where latents are discrete, which have no curvature."""


def engines_for(by: str) -> tuple[Engine, ...]:
    """What a word stands for.

    Raises:
        ValueError: no such word.

    Example:
        >>> [engine.__name__ for engine in engines_for("chains")]
        ['from_chains']
    """
    if by not in ENGINES:
        raise ValueError(f"impute: by: expected one of {', '.join(ENGINES)}; got {by!r}.")
    return ENGINES[by]


def draw_latents(
    system: HasModel, batch: Batch, draws: int, engines: Sequence[Engine] = ENGINES["modes"]
) -> WeightedLatents:
    """By the first engine; where it leaves fewer than a fifth of the draws, by the next, where that leaves more.

    Where nothing was observed, from the prior; of discrete latents from the system's own posterior, or by chains.
    """
    if not system.parts().model.prior.continuous:
        engines = [engine for engine in engines if engine in DISCRETE] or [from_encoder]
    first, *others = engines
    found = first(system, batch, draws)
    for engine in others:
        found = found.replaced(found.effective < ENOUGH * draws, partial(engine, system), batch, draws)
    if batch.mask is None:
        return found
    return found.replaced(~batch.mask.flatten(1).any(1), partial(from_prior, system), batch, draws)


def _with_mask(batch: Batch) -> Batch:
    return batch if batch.mask is not None else batch._replace(mask=torch.ones_like(batch.x, dtype=torch.bool))


def _weighted(model: LatentVariableModel, batch: Batch, q: Posterior, draws: int) -> WeightedLatents:
    """``w_s = c_s p(x_observed, z_s) / q(z_s)``, of about so many draws in all, or of every state."""
    found = q.draw(max(1, draws // q.count(1)))
    return WeightedLatents.of(found.z, found.log_c + log_weights(model, batch, found), q.count(1) == q.count(2))
