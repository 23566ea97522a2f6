"""Likelihood regret: what a posterior of a row's own would gain over that of the encoder."""

import numpy as np
import torch
from torch import Tensor

from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.likelihood.importance import exact, rows_within
from curvae.evaluation.ood.likelihood_matrix import PerRow
from curvae.evaluation.settings import MEMORY
from curvae.inference import refiner_at_test_time
from curvae.model import require_continuous
from curvae.noise import common_noise
from curvae.objectives import elbo
from curvae.posteriors import Posterior
from curvae.systems import HasModel, System, require
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

DRAWS = 64
"""Of each ELBO, the same before and after: those by which the refiner keeps a start, so that no regret is below 0."""


def likelihood_regret(
    system: System, table: ArrayTable, steps: int = 20, seed: int = 0, memory: int = MEMORY, batch_size: int = 100
) -> PerRow:
    """``ELBO(q*) - ELBO(q)`` of each row, nats, 0 or more, q* the refined posterior. High where a row is not known.

    The decoder stays as it is; q* is found by ``steps`` of the library's refiner within the family of q.

    Reference: Xiao, Yan and Amit, *Likelihood Regret*, NeurIPS 2020.

    Differences: published code refines the encoder's weights or the posterior's parameters for 100 to 300 steps; here
    its parameters, with as many steps as are asked for.

    Args:
        system: with a model of continuous latents; left as it is.
        table: the rows.
        steps: of refinement.
        seed: of what the inference draws.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: most rows refined at a time.

    Raises:
        ValueError: a system without a model (HasModel) of continuous latents.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> regret = likelihood_regret(vae(data.spec, latent=2, hidden=8), data.test, steps=5)
        >>> bool((regret >= 0).all())
        True
    """
    able, found = require(system, HasModel, "likelihood_regret"), []
    require_continuous(able.parts().model, "likelihood_regret")
    with seeded_evaluation(system, seed):
        first = batch_to_system(system, table.batch(torch.arange(1)))
        size = min(batch_size, rows_within(system, first, max(1, memory // DRAWS)))
        for batch in table.batches(size):
            found.append(exact(_regret(able, batch_to_system(system, batch), steps)).numpy())
    return np.concatenate(found)


def _regret(system: HasModel, batch: Batch, steps: int) -> Tensor:
    parts, unknown = system.parts(), batch._replace(index=torch.full_like(batch.index, -1))
    model, start = parts.model.given(batch.context), parts.infer(unknown).posterior

    def judged(q: Posterior) -> Tensor:
        return elbo(model, q, unknown, DRAWS, generator=common_noise(1, q.center.device)).value

    return judged(refiner_at_test_time(steps)(model, start, unknown).posterior) - judged(start)
