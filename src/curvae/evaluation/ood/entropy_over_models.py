"""How evenly models share log p(x) of a row."""

import numpy as np
from scipy.special import entr, softmax

from curvae.evaluation.ood.likelihood_matrix import Matrix, PerRow


def entropy_over_models(ll: Matrix) -> PerRow:
    """``H = -sum_m w_m log w_m`` with ``w = softmax_m ll_m``, nats, from 0 to log M. Low where a row is not known.

    ``exp(H)`` is at least :func:`effective_models`, and tells more of the weights that are small.

    Reference: Glazunov and Zarras, UAI 2022.

    Example:
        >>> entropy_over_models(np.array([[-1.0, 0.0], [-1.0, -np.inf]])).round(4).tolist()
        [0.6931, 0.0]
    """
    return np.asarray(entr(softmax(ll, axis=0))).sum(0)
