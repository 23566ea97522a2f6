"""How far the code of a row is from those of known rows."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from curvae.evaluation.ood.likelihood_matrix import PerRow

FLOOR = 1e-6
"""Standard deviation of a latent, at least, in units of the widest."""


def latent_distance(codes: Float[NDArray[np.floating], "N D"], known: Float[NDArray[np.floating], "R D"]) -> PerRow:
    """``sqrt(sum_d ((mu_d - m_d) / s_d)^2)``, m and s the mean and standard deviation of each latent over known rows.

    Mahalanobis' distance latent by latent, mu the posterior mean of a row. High where a row is not known.

    Args:
        codes: posterior means of the rows.
        known: of known rows.

    Example:
        >>> latent_distance(np.array([[3.0, 0.0]]), np.array([[1.0, 5.0], [-1.0, -5.0]])).tolist()
        [3.0]
    """
    mean, deviation = known.mean(0, dtype=np.float64), known.std(0, dtype=np.float64)
    return np.sqrt(np.square((codes - mean) / np.maximum(deviation, FLOOR * deviation.max())).sum(1))
