"""Weighted draws of a batch from every proposal it has: the same draws serve the mixture of them."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.distributions.posterior import AnyPosterior
from curvae.evaluation.estimate import Scores
from curvae.evaluation.likelihood.diagnostics import Estimates, estimate, pareto_smooth
from curvae.evaluation.likelihood.importance import BalancedWeights, balanced_weights, posterior_weights, system_weights
from curvae.evaluation.settings import MEMORY
from curvae.model import LatentVariableModel
from curvae.posteriors import DensityPosterior, Posterior
from curvae.systems import HasWeights
from curvae.typing import Batch


class Sampling(NamedTuple):
    """How the weights are drawn, and what is made of them."""

    samples: int = 500
    memory: int = MEMORY
    generator: Generator | None = None
    stderr: float | None = None
    """Standard error of log p(x) that is wanted of each example, nats; None: the same number of draws for all."""
    most: int = 16
    """Draws at most, in multiples of ``samples``."""
    smooth: bool = False
    """Also estimate from Pareto-smoothed weights."""
    chains: bool = True
    """Fit a further proposal to chains where the others do not do."""


class WeightSet(NamedTuple):
    """S weighted draws of each example from one proposal, and which part of it each came from."""

    log_w: Float[Tensor, "S B"]
    log_c: Float[Tensor, "S B"]
    stratum: Int[Tensor, " S"]

    @classmethod
    def plain(cls, log_w: Float[Tensor, "S B"], log_c: Float[Tensor, "S B"]) -> "WeightSet":
        """From a single proposal."""
        return cls(log_w, log_c, torch.zeros(len(log_w), dtype=torch.long))

    def rows(self, kept: NDArray[np.int64]) -> "WeightSet":
        """Those of some data."""
        return self._replace(log_w=self.log_w[:, kept], log_c=self.log_c[:, kept])

    def estimates(self) -> Estimates:
        """What they say of each example."""
        return estimate(self.log_w.numpy(), self.log_c.numpy(), self.stratum.numpy())

    def smoothed(self) -> Estimates:
        """What they say after Pareto smoothing."""
        log_c = self.log_c.numpy()
        return estimate(pareto_smooth((self.log_c + self.log_w).numpy()) - log_c, log_c, self.stratum.numpy())


Draw = Callable[[Int[Tensor, " R"], int], dict[str, WeightSet]]
"""New draws for some rows of a batch, so many of each: their weights by proposal."""


def concatenate_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of all data from those of their batches."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_each_at_its_effort(times: NDArray[np.int64], measure: Callable[[int, NDArray[np.int64]], Scores]) -> Scores:
    """What is measured of each example with so many times the effort; in the order of the batch.

    Args:
        times: of each example, ``(B,)``.
        measure: from such a factor, and the rows that have it, to the scores of these.
    """
    found: Scores = {}
    for factor in np.unique(times).tolist():
        rows = np.flatnonzero(times == factor)
        for name, values in measure(factor, rows).items():
            found.setdefault(name, np.empty(len(times), values.dtype))[rows] = values
    return found


def draws_from_system(system: HasWeights, batch: Batch, sampling: Sampling) -> Draw:
    """Draws of any system, which infers anew for them."""

    def draw(rows: Int[Tensor, " R"], n: int) -> dict[str, WeightSet]:
        part = rows_of_batch(batch, rows)
        return {"own": WeightSet.plain(*system_weights(system, part, n, sampling.memory, sampling.generator))}

    return draw


def draws_from_posterior(model: LatentVariableModel, own: Posterior, batch: Batch, sampling: Sampling) -> Draw:
    """Draws of a posterior alone."""

    def draw(rows: Int[Tensor, " R"], n: int) -> dict[str, WeightSet]:
        part, q = rows_of_batch(batch, rows), rows_of_posterior(own, rows)
        return {
            "own": WeightSet.plain(
                *posterior_weights(model.given(part.context), q, part, n, sampling.memory, sampling.generator)
            )
        }

    return draw


def draws_from_both(
    model: LatentVariableModel, own: Posterior, common: DensityPosterior, batch: Batch, sampling: Sampling
) -> Draw:
    """Draws of a posterior and of the common proposal; and the same draws as those of a mixture of both.

    The mixture is there where both densities are known at any z. It costs no draw and no decoder pass: every draw is
    weighed by ``p(x, z) / (q_own(z) + q_common(z)) * 2`` again (multiple importance sampling by the balance heuristic),
    each proposal being a stratum of half the weight.
    """

    def draw(rows: Int[Tensor, " R"], n: int) -> dict[str, WeightSet]:
        part, q, r = rows_of_batch(batch, rows), rows_of_posterior(own, rows), rows_of_posterior(common, rows)
        here = model.given(part.context)
        settings = part, n, sampling.memory, sampling.generator
        if not (isinstance(q, DensityPosterior) and isinstance(r, DensityPosterior)):
            ours, theirs = (posterior_weights(here, proposal, *settings) for proposal in (q, r))
            return {"own": WeightSet.plain(*ours), "laplace": WeightSet.plain(*theirs)}
        ours, theirs = (balanced_weights(here, a, b, *settings) for a, b in ((q, r), (r, q)))
        single = {"own": WeightSet.plain(*ours[:2]), "laplace": WeightSet.plain(*theirs[:2])}
        return single | {"defensive": mixed(ours, theirs)}

    return draw


def mixed(*parts: BalancedWeights) -> WeightSet:
    """Draws of several proposals as those of their mixture in equal parts: a stratum each."""
    log_w = torch.cat([part.log_w + part.balance for part in parts])
    log_c = torch.cat([part.log_c - math.log(len(parts)) for part in parts])
    stratum = [torch.full((len(part.log_w),), k) for k, part in enumerate(parts)]
    return WeightSet(log_w, log_c, torch.cat(stratum))


def rows_of_batch(batch: Batch, rows: Int[Tensor, " R"]) -> Batch:
    """Some rows of a batch."""
    if len(rows) == len(batch.x):
        return batch
    rows = rows.to(batch.x.device)
    return batch.take(rows)


def rows_of_posterior(posterior: AnyPosterior, rows: Int[Tensor, " R"]) -> AnyPosterior:
    """The posterior of some rows of a batch."""
    if len(rows) == len(posterior.center):
        return posterior
    rows = rows.to(posterior.center.device)
    return posterior.with_tensors({name: value[rows] for name, value in posterior.tensors.items()})
