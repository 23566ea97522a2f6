"""Filling in what is missing: Markov chains of latents and missing values."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor

from curvae.argument_checks import check_counts
from curvae.evaluation.draws import seeded_evaluation
from curvae.model import LatentVariableModel
from curvae.posteriors import DensityPosterior, Posterior
from curvae.systems import CanImpute, HasModel, Parts, System, require
from curvae.typing import Batch, Context

ROWS = 4096
"""Chains that run side by side."""


class Imputation(NamedTuple):
    """Several completions of each example."""

    x: Shaped[Tensor, "C B *event"]
    """The last state of each chain: what was observed as it was, and draws in the place of the rest."""
    accepted: Float[Tensor, " B"]
    """Share of the steps in which an example's chains took the latent that the posterior proposed; 1 without them."""


def impute(
    system: System,
    x: Shaped[Tensor, "B *event"],
    mask: Bool[Tensor, "B *event"],
    steps: int = 50,
    chains: int = 1,
    metropolis: bool = True,
    seed: int = 0,
    context: Context | None = None,
) -> Imputation:
    """Draw missing values from ``p(x_missing | x_observed)``: several completions, so that their spread can be seen.

    A system that has them in closed form (CanImpute) gives them; else chains of its model do. Each step of a chain
    draws ``z' ~ q(z | x)`` of the example as it is now completed, takes it instead of z with probability
    ``min(1, p(x, z') q(z | x) / (p(x, z) q(z' | x)))``, and then draws ``x_missing ~ p(x_missing | z)``. This
    Metropolis-within-Gibbs chain leaves ``p(z, x_missing | x_observed)`` as it is, whatever q. Without the correction
    every z' is taken, and the chain's own law is right only where q is the exact posterior. Nothing is concluded from
    what is missing: a system's p(mask | x) is left out, which :func:`curvae.evaluation.conditionals` weighs by.

    Reference: Mattei and Frellsen, *Leveraging the Exact Likelihood of Deep Latent Variable Models*, NeurIPS 2018;
    without the correction Rezende, Mohamed and Wierstra, ICML 2014.

    Args:
        system: a trained system, left as it is.
        x: data in model space, anything where they are missing.
        mask: True where observed.
        steps: of each chain; they start at a draw of the posterior of what was observed.
        chains: C, for each example.
        metropolis: whether to correct.
        seed: of all draws.
        context: what is known of each row, for a model that is given it.

    Raises:
        ValueError: fewer than 1 step or chain, a system without a model (HasModel), an autoregressive decoder, a
            posterior without a density where that is needed, or data that are not finite where observed.

    Example:
        >>> import torch
        >>> from curvae.systems import vae
        >>> from curvae.typing import DataSpec
        >>> system, x = vae(DataSpec((5,)), latent=2, hidden=8), torch.randn(3, 5)
        >>> mask = torch.tensor([True, True, True, False, False]).expand(3, 5)
        >>> filled = impute(system, x, mask, steps=10, chains=20)
        >>> filled.x.shape, torch.equal(filled.x[..., :3], x[:, :3].expand(20, 3, 3))
        (torch.Size([20, 3, 5]), True)
    """
    check_counts("impute", steps=steps, chains=chains)
    seen = zero_missing_values("impute", x, mask)
    if isinstance(system, CanImpute):
        with seeded_evaluation(system, seed):
            drawn = system.impute(seen, mask, chains, Generator(x.device).manual_seed(seed))
        return Imputation(drawn, torch.ones(len(x), device=x.device))
    parts = require(system, HasModel, "impute").parts()
    if parts.model.autoregressive:
        raise ValueError(
            "impute: an autoregressive decoder draws element by element, not all missing ones at once; expected a "
            "model with autoregressive=False."
        )
    seen, mask = (value.reshape(-1, *parts.model.likelihood.event) for value in (seen, mask))
    with seeded_evaluation(system, seed):
        ends = [
            _chain(parts, Batch.of(seen, mask, context).take(rows), steps, chains, metropolis)
            for rows in torch.arange(len(x), device=x.device).split(max(1, ROWS // chains))
        ]
    filled, accepted = zip(*ends, strict=True)
    return Imputation(torch.cat(filled, dim=1).reshape(chains, *x.shape), torch.cat(accepted))


def zero_missing_values(who: str, x: Tensor, mask: Tensor) -> Tensor:
    """The data with 0 where they are missing.

    Raises:
        ValueError: they are not finite where they are observed.
    """
    seen = torch.where(mask, x, torch.zeros_like(x))
    if not bool(seen.isfinite().all()):
        raise ValueError(f"{who}: x holds NaN or infinity where mask says that it was observed; mend it, or the mask.")
    return seen


def _chain(parts: Parts, batch: Batch, steps: int, chains: int, metropolis: bool) -> tuple[Tensor, Tensor]:
    """Completed data (C, B, *event) and shares accepted (B,)."""
    filled, accepted = batch.x, torch.zeros(len(batch.x), device=batch.x.device)
    for state in islice(chain_states(parts, batch, chains, metropolis), steps):
        filled = state.x
        accepted += state.taken.float().mean(0) / steps
    return filled, accepted


class ChainState(NamedTuple):
    """Where C chains of each example are."""

    z: Float[Tensor, "C B D"]
    x: Shaped[Tensor, "C B *event"]
    """Completed."""
    taken: Bool[Tensor, "C B"]
    """Whether the latest proposal was."""


def chain_states(parts: Parts, batch: Batch, chains: int, metropolis: bool = True) -> Iterator[ChainState]:
    """The states of :func:`impute`'s chains, one after another, without end; draws come from torch's own generator."""
    count = len(batch.x)
    batch = batch.take(torch.arange(count, device=batch.x.device).repeat(chains))
    seen, mask, context = batch.x, batch.mask, batch.context
    assert mask is not None
    model, z = parts.model.given(context), _one(parts.infer(batch).posterior)
    every = torch.ones_like(z[:, 0], dtype=torch.bool)
    filled = _fill(model, seen, mask, z)
    while True:
        q = parts.infer(Batch.of(filled, context=context)).posterior
        proposed = _one(q)
        taken = _taken(model, q, filled, z, proposed) if metropolis else every
        z = torch.where(taken.unsqueeze(-1), proposed, z)
        filled = _fill(model, seen, mask, z)
        yield ChainState(*(each.unflatten(0, (chains, count)) for each in (z, filled, taken)))


def _one(q: Posterior) -> Float[Tensor, "B D"]:
    """One draw, of those a posterior gives by strata or states by their weights."""
    draws = q.draw(1)
    if len(draws.z) == 1:
        return draws.z[0]
    chosen = torch.multinomial(draws.log_c.exp().mT, 1)[:, 0]
    return draws.z[chosen, torch.arange(len(chosen), device=chosen.device)]


def _fill(model: LatentVariableModel, x: Tensor, mask: Tensor, z: Float[Tensor, "B D"]) -> Tensor:
    """What was observed, and draws of the likelihood elsewhere."""
    drawn = model.likelihood.sample(model.decode(z))
    return torch.where(mask, x, drawn.reshape(x.shape).to(x.dtype))


def _taken(model: LatentVariableModel, q: Posterior, x: Tensor, z: Tensor, proposed: Tensor) -> Bool[Tensor, " B"]:
    """Whether the Metropolis-Hastings test of an independent proposal is passed."""
    if not isinstance(q, DensityPosterior):
        raise ValueError(
            f"impute: the correction needs the posterior's density; {type(q).__name__} has none. Use metropolis=False."
        )
    both = torch.stack([z, proposed])
    now, then = (model.log_joint(x, both) - q.log_prob(both)).unbind()
    return torch.rand_like(now).log() < then - now
