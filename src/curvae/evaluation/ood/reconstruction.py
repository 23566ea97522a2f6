"""How well a row is explained by the latents that were inferred from it."""

import numpy as np
import torch

from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.likelihood.importance import exact
from curvae.evaluation.ood.likelihood_matrix import PerRow
from curvae.posteriors import representative_point
from curvae.systems import HasModel, System, require
from curvae.systems.device import batch_to_system


def reconstruction_log_likelihood(system: System, table: ArrayTable, seed: int = 0, batch_size: int = 100) -> PerRow:
    """``log p(x | z)`` at the point that stands for q(z | x), nats. Low where a row is not known.

    No density of x: latents of many dimensions reconstruct anything.

    Args:
        system: with a model; left as it is.
        table: the rows.
        seed: of what the inference draws.
        batch_size: most rows inferred at a time.

    Raises:
        ValueError: a system without a model (HasModel).

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> reconstruction_log_likelihood(vae(data.spec, latent=2, hidden=8), data.test).shape
        (6,)
    """
    able, found = require(system, HasModel, "reconstruction_log_likelihood"), []
    with seeded_evaluation(system, seed):
        for raw in table.batches(batch_size):
            batch = batch_to_system(system, raw)
            batch = batch._replace(index=torch.full_like(batch.index, -1))
            z = representative_point(able.parts().infer(batch).posterior)
            model = able.parts().model.given(batch.context)
            found.append(exact(model.log_likelihood(batch.x, z, batch.mask)).numpy())
    return np.concatenate(found)
