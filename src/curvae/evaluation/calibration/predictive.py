r"""Do given rows look like data of the model at all? Each against draws of the model, and all of them together.

A row and a simulated example go through the same steps, so that their numbers are exchangeable if the model made the
row, whatever q is: the p-values are exact also where the posterior is wrong. Of each

1. ``log p(x)``, by importance weights of S draws of q(z | x);
2. ``E log p(x | z)``, how well it is explained; 3. ``E log p(z)``, how far out its latents lie;
4. the largest error of an element, ``max_j |x_j - E[x_j | z]| / s_j``, in its spread over simulated data.

A row too probable is as odd as one too improbable: the p-value of a row is the share of simulated data that are as far
out, in either direction, in any of the four. All rows together are compared with simulated data in three ways: how many
of them are among the outermost, and by kernel tests (MMD) of these numbers with the means of latents, and of x itself.

References: Gelman, Meng and Stern, *Posterior predictive assessment of model fitness*, Statistica Sinica 1996;
Nalisnick, Matsukawa, Teh and Lakshminarayanan, *Detecting out-of-distribution inputs to deep generative models using
typicality*, 2019; Vovk, Gammerman and Shafer, *Algorithmic learning in a random world*, 2005 (the p-value of a row).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.evaluation.calibration.row_tests import FLOOR, LEAST, RowTest, given_rows, pieces, simulated
from curvae.evaluation.information.two_sample import PERMUTATIONS, mmd
from curvae.systems import Parts, System
from curvae.typing import Batch

Array = NDArray[Any]
SPARE = 200
"""Further data drawn, from which the spread of each number is known."""
COMPARED = 1000
"""Rows at most that kernel tests see, and as many simulated data."""
OUTER = 0.01
"""Share of all that counts as outermost."""


class PredictiveStatistics(NamedTuple):
    """What is seen of N data."""

    scores: Float[Array, "N 3"]
    """log p(x), E log p(x | z), E log p(z), nats."""
    error: Float[Array, "N P"]
    """Of each element; 0 where it is missing."""
    latent: Float[Array, "N D"]
    """Mean of q(z | x)."""
    x: Float[Array, "N P"]


def predictive_check(
    system: System,
    x: Tensor,
    mask: Tensor | None = None,
    count: int = 1000,
    draws: int = 50,
    seed: int = 0,
    batch_size: int = 100,
) -> RowTest:
    """Whether rows look like draws of a system's model.

    It does not see faults of q, nor, in a single row, what leaves all of its numbers as they are: a structure of errors
    that is spread over many elements. Copies and wrong correlations are seen in many rows together only.

    Args:
        system: with a model of continuous latents.
        x: the rows, in the model's units.
        mask: True where observed; all if None. Simulated data then lack what one of the rows lacks.
        count: data drawn from the model; the smallest p-value of a row is 1 / (count + 1).
        draws: S from the posterior of each.
        seed: of everything drawn.
        batch_size: data at a time.

    Raises:
        ValueError: a system without a model (HasModel) of continuous latents, rows of another shape, counts below 1.

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = predictive_check(vae(data.spec, latent=2, hidden=8), data.test.x + 100, count=200)
        >>> max(found.p_values) < 0.01, found.p_value < 0.05
        (True, True)
    """
    counts = {"count": count, "draws": draws, "batch_size": batch_size}
    with given_rows("predictive_check", system, x, mask, seed, **counts) as (parts, given, generator):
        batch, _ = simulated(parts.model, SPARE + count, given, generator)
        made, rows = (_seen(parts, each, draws, batch_size, generator) for each in (batch, given))
    errors, x_scaled = (_scaled(a, b, FLOOR) for a, b in ((made.error, rows.error), (made.x, rows.x)))
    scores = _scaled(made.scores, rows.scores)
    numbers = [np.column_stack([a, np.abs(b).max(1)]) for a, b in zip(scores, errors, strict=True)]
    latents = [part / np.sqrt(made.latent.shape[1]) for part in _scaled(made.latent, rows.latent)]
    both = [np.concatenate(two, 1) for two in zip(numbers, latents, strict=True)]
    odd = _odd(*numbers)
    p = (1 + (odd[0][SPARE:] >= odd[1][:, None]).sum(1)) / (1 + count)
    if len(p) == 1:
        return RowTest((float(p[0]),), float(p[0]), count)
    found = [_different(a, b, seed) for a, b in (both, x_scaled)]
    found += [outer_p_value(odd[0][SPARE:], odd[1])]
    return RowTest(tuple(p.tolist()), min(1.0, len(found) * min(found)), count)


def outer_p_value(made: Float[Array, " N"], rows: Float[Array, " R"]) -> float:
    """Whether too many rows are in the uppermost hundredth of rows and simulated data: a hypergeometric number.

    Example:
        >>> made = np.random.default_rng(0).normal(size=1000)
        >>> outer_p_value(made[:900], made[900:]) > 0.05, outer_p_value(made[:900], made[900:] + 2) < 1e-4
        (True, True)
    """
    pooled = np.concatenate([made, rows])
    outer = pooled >= np.quantile(pooled, 1 - OUTER, method="lower")
    from scipy.stats import hypergeom  # its package takes a second to import

    return float(hypergeom(len(pooled), outer.sum(), len(rows)).sf(outer[len(made) :].sum() - 1))


def _odd(made: Float[Array, "N Q"], rows: Float[Array, "R Q"]) -> list[Array]:
    """How far out each is, up or down, in the number where that is most: from the median to a twentieth is 1."""
    low, middle, high = np.quantile(made[:SPARE], (0.05, 0.5, 0.95), axis=0)
    up, down = np.maximum(high - middle, LEAST), np.maximum(middle - low, LEAST)
    return [np.maximum((part - middle) / up, (middle - part) / down).max(1) for part in (made, rows)]


def _different(made: Array, rows: Array, seed: int) -> float:
    """P-value of a kernel test."""
    return mmd(rows[:COMPARED], made[SPARE:][:COMPARED], PERMUTATIONS, seed).p_value


def _scaled(made: Float[Array, "N Q"], rows: Float[Array, "R Q"], floor: float = 0.0) -> list[Array]:
    """Simulated data and rows, in mean and spread of those that are spared for it."""
    middle, spread = made[:SPARE].mean(0), made[:SPARE].std(0)
    spread = np.maximum(spread, LEAST + floor * np.sqrt(np.square(spread).mean()))
    return [(part - middle) / spread for part in (made, rows)]


def _seen(parts: Parts, batch: Batch, draws: int, batch_size: int, generator: Generator) -> PredictiveStatistics:
    found = [_looks(parts, each, draws, generator) for each in pieces(batch, batch_size)]
    return PredictiveStatistics(*(torch.cat(each).double().cpu().numpy() for each in zip(*found, strict=True)))


def _looks(parts: Parts, batch: Batch, draws: int, generator: Generator) -> tuple[Tensor, ...]:
    model, x, mask = parts.model.given(batch.context), batch.x, batch.mask
    found = parts.infer(batch).posterior.draw(draws, generator)
    share, log_prior, log_likelihood = (
        found.log_c.exp(),
        model.prior.log_prob(found.z),
        model.log_likelihood(x, found.z, mask),
    )
    log_p = torch.logsumexp(found.log_c + log_prior + log_likelihood - found.log_q, 0)
    scores = torch.stack([log_p, (share * log_likelihood).sum(0), (share * log_prior).sum(0)], -1)
    latent = (share.unsqueeze(-1) * found.z).sum(0)
    error = x - model.mean(latent, x)
    error = error if mask is None else error * mask
    return scores, error.flatten(1), latent, x.flatten(1)
