"""Typicality: a row may be too likely, too."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from curvae.evaluation.ood.expected_log_likelihood import expected_log_likelihood
from curvae.evaluation.ood.likelihood_matrix import Matrix, PerRow


def typicality(ll: Matrix, known: Float[NDArray[np.float64], "M R"]) -> PerRow:
    """``|ELL(x) - mean ELL of known rows|``, nats: the typicality test of a single row. High where it is not known.

    Known rows are validation rows of the run: neither those that are scored nor those that it was trained on.

    Reference: Nalisnick, Matsukawa, Teh and Lakshminarayanan, *Detecting Out-of-Distribution Inputs to Deep Generative
    Models Using Typicality*, 2019; over models as Glazunov and Zarras, UAI 2022.

    Differences: published scores of the latter take the mean of the very test set that they then call known.

    Args:
        ll: of the rows.
        known: of known rows, under the same models.

    Example:
        >>> typicality(np.array([[-1.0, -9.0]]), np.array([[-4.0, -6.0]])).tolist()
        [4.0, 4.0]
    """
    usual = expected_log_likelihood(known)
    return np.abs(expected_log_likelihood(ll) - np.mean(usual[np.isfinite(usual)]))
