"""log p(x) of a row that does not depend on the rows beside it: the same draws serve every row."""

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.argument_checks import check_counts
from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.likelihood.importance import exact, rows_within
from curvae.evaluation.likelihood.proposal import LARGE, STEPS, Widened, width_for
from curvae.evaluation.likelihood.weighted_draws import (
    Draw,
    Sampling,
    draws_from_both,
    draws_from_posterior,
    draws_from_system,
)
from curvae.evaluation.settings import MEMORY
from curvae.inference import Laplace
from curvae.noise import common_noise
from curvae.systems import HasDensity, HasModel, HasWeights, Parts, System, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.typing import Batch

AT_ONCE = 2**62
"""Bytes: all draws of a row come from the generator in one piece, however many rows there are."""


def row_evidence(
    system: System, table: ArrayTable, samples: int = 200, seed: int = 0, memory: int = MEMORY
) -> NDArray[np.float64]:
    r"""Log p(x) of each row in the data's own units, nats, ``(N,)``: a function of the row, the system and the seed.

    Exact where the system's density is. Else the importance estimate

    ``log 1/(2S) sum_s p(x, z_s) / (q(z_s | x) / 2 + r(z_s | x) / 2)``

    from S draws of the system's own posterior q and S of r, the Laplace posterior at the mode, widened (of q alone
    where latents are discrete, or more than 2,048). Both are made of noise that is the same for every row. So a row
    has one number, whatever other rows are asked for with it; and as all rows share the noise, what the estimate misses
    of one it tends to miss of all: averages over rows do not get rid of it, more draws do. Its exponential is an
    unbiased estimate of p(x); it is itself too low by half the variance of the weights over S, to first order.

    Differences to :func:`curvae.evaluation.score`: no choice among proposals, no search for several modes, no chains,
    no error and no flag. Ask that where a number is to be trusted by itself.

    Args:
        system: in evaluation mode; in float64 a row's number repeats to rounding in any batch.
        table: the rows.
        samples: draws S from each proposal.
        seed: of the noise.
        memory: bytes that draws may take at a time.

    Raises:
        ValueError: the system gives no evidence.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> system = vae(data.spec, latent=2, hidden=8).double()
        >>> every, some = row_evidence(system, data.train), row_evidence(system, data.train, memory=200_000)
        >>> every.shape, np.allclose(every, some, rtol=0, atol=1e-9)
        ((28,), True)
    """
    if system.evidence == "none":
        raise ValueError("score: this system gives no evidence (evidence='none'), so it has no log p(x).")
    check_counts("score", samples=samples)
    found = []
    with seeded_evaluation(system, seed):
        first = batch_to_system(system, table.batch(torch.arange(1)))
        for index in torch.arange(len(table)).split(rows_within(system, first, memory // (2 * samples))):
            raw = table.batch(index)
            log_det = exact(table.transform.log_det(raw.x, raw.mask)).numpy()
            found.append(_of_batch(system, batch_to_system(system, raw), samples, seed) + log_det)
    return np.concatenate(found)


def _of_batch(system: System, batch: Batch, samples: int, seed: int) -> NDArray[np.float64]:
    """In the model's units."""
    if system.evidence == "exact":
        return exact(require(system, HasDensity, "score").log_prob(batch.x, batch.mask)).numpy()
    sampling = Sampling(samples, AT_ONCE, common_noise(seed, device_and_dtype(system)[0]))
    draw = _draws(system, batch, sampling)
    sets = draw(torch.arange(len(batch.x)), samples)
    weights = next(sets[name] for name in ("defensive", "laplace", "own") if name in sets)
    return (weights.log_c + weights.log_w).logsumexp(0).numpy()


def _draws(system: System, batch: Batch, sampling: Sampling) -> Draw:
    """Those of both proposals, of the one that there is, or of a system without a model."""
    if not isinstance(system, HasModel):
        return draws_from_system(require(system, HasWeights, "score"), batch, sampling)
    parts = system.parts()
    model, own = parts.model.given(batch.context), parts.infer(batch).posterior
    if not model.prior.continuous or (size := sum(model.prior.blocks)) > LARGE:
        return draws_from_posterior(model, own, batch, sampling)
    common = _laplace(parts, size)(model, batch).posterior
    return draws_from_both(model, own, common, batch, sampling)


def _laplace(parts: Parts, size: int) -> Widened:
    """One search from the center of the system's own posterior; nothing in it is random."""
    return Widened(Laplace(parts.inference, STEPS), width_for(size))
