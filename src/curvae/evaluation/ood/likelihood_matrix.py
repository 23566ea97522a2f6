"""The likelihood matrix: log p(x | weights) of every row under every draw of the weights, computed once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import fdtri
from torch import Generator

from curvae.argument_checks import check_counts
from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.likelihood.importance import posterior_weights
from curvae.evaluation.settings import MEMORY
from curvae.systems import DrawsModels, LatentSystem, System, require
from curvae.systems.device import batch_to_system, device_and_dtype
from curvae.typing import Batch

Matrix = Float[NDArray[np.float64], "M N"]
PerRow = Float[NDArray[np.float64], " N"]
LEVEL = 0.05
"""Share of rows whose models do not differ that are taken to differ all the same."""
HALVES = 2


class LikelihoodMatrix(NamedTuple):
    """``ll[m, n] = log p(x_n | theta_m)`` in nats, from two independent halves of the draws."""

    halves: Float[NDArray[np.float64], "2 M N"]
    """Of each half of the draws the estimate by itself; each half has the same draws for all models."""

    @property
    def values(self) -> Matrix:
        """The estimate from all draws."""
        return np.logaddexp(self.halves[0], self.halves[1]) - np.log(HALVES)

    @property
    def deviation(self) -> PerRow:
        """``std_m[ll_m]``, nats, importance sampling and all; exactly 0 where all models say the same."""
        return np.std(self.values - self.values[0], axis=0, ddof=1)

    @property
    def noise(self) -> PerRow:
        """What importance sampling adds to the standard deviation over models, nats.

        ``std_m(ll_A - ll_B) / 2``, A and B the halves: what all models have in common cancels, as it does in the
        standard deviation of ``values``. Where models do not differ both are estimates of one number.
        """
        difference = self.halves[0] - self.halves[1]
        return np.std(difference - difference[0], axis=0, ddof=1) / HALVES

    @property
    def above_noise(self) -> NDArray[np.bool_]:
        """Rows over whose models the likelihood varies more than importance sampling explains, by an F test at 5 %.

        False by chance in all but 5 % of the rows whose models are equal, if errors are normal.
        """
        free = len(self.values) - 1
        limit = fdtri(free, free, 1 - LEVEL)
        return self.deviation**2 > limit * self.noise**2


def likelihood_matrices(
    system: System,
    tables: Sequence[ArrayTable],
    models: int = 20,
    samples: int = 100,
    seed: int = 0,
    memory: int = MEMORY,
    batch_size: int = 100,
    report: Callable[[int], None] | None = None,
) -> list[LikelihoodMatrix]:
    r"""Of each table the matrix of log-likelihoods under ``models`` draws of the weights, nats.

    ``ll[m, n] = log 1/K sum_k p(x_n | z_k, theta_m) p(z_k) / q_m(z_k | x_n)``, with draws of q_m, the posterior that
    model m infers. Every model is given the same noise: without that, what looks like disagreement of models is the
    chance of the draws. What is left of it is :attr:`LikelihoodMatrix.noise`.

    Args:
        system: with a posterior over weights (DrawsModels); left as it is.
        tables: rows; all are seen by each model in turn.
        models: number M of draws of the weights.
        samples: number K of draws of the latents for each model and row; half of them in each half.
        seed: of weights and latents.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: most rows inferred at a time.
        report: called after each model with the number of those done.

    Raises:
        ValueError: fewer than 2 models or samples, or a system without a posterior over weights.
    """
    able = require(system, DrawsModels, "likelihood_matrices")
    check_counts("likelihood_matrices", models=models, samples=samples, batch_size=batch_size)
    if models < 2 or samples < 2:
        raise ValueError(f"likelihood_matrices: models and samples must be 2 or more; got {models} and {samples}.")
    device, found = device_and_dtype(system)[0], [np.empty((HALVES, models, len(table))) for table in tables]
    with seeded_evaluation(system, seed) as generator:
        for m, model in enumerate(able.models(models, generator)):
            with seeded_evaluation(model, seed):
                for table, halves in zip(tables, found, strict=True):
                    halves[:, m] = _row_of_matrix(model, table, samples, seed, memory, batch_size, device)
            if report is not None:
                report(m + 1)
    return [LikelihoodMatrix(halves) for halves in found]


def _row_of_matrix(
    model: LatentSystem, table: ArrayTable, samples: int, seed: int, memory: int, batch_size: int, device: torch.device
) -> Float[NDArray[np.float64], "2 N"]:
    """Both halves of one model: the noise of a batch depends on its place alone, not on the model."""
    parts = []
    for index in torch.arange(len(table)).split(batch_size):
        batch = batch_to_system(model, table.batch(index))
        batch = batch._replace(index=torch.full_like(batch.index, -1))
        torch.manual_seed(seed + int(index[0]))
        generator = Generator(device).manual_seed(seed + int(index[0]))
        parts.append(_estimated(model, batch, samples, memory, generator))
    return np.concatenate(parts, 1)


def _estimated(
    model: LatentSystem, batch: Batch, samples: int, memory: int, generator: Generator
) -> Float[NDArray[np.float64], "2 B"]:
    """Inference once, then draws of each half."""
    parts = model.parts()
    here, posterior = parts.model.given(batch.context), parts.infer(batch).posterior
    halves = [posterior_weights(here, posterior, batch, samples // HALVES, memory, generator) for _ in range(HALVES)]
    return np.stack([(weights.log_c + weights.log_w).logsumexp(0).numpy() for weights in halves])
