"""The criterion of Watanabe and Akaike, row by row."""

import numpy as np

from curvae.evaluation.ood.expected_log_likelihood import expected_log_likelihood
from curvae.evaluation.ood.likelihood_matrix import Matrix, PerRow


def waic(ll: Matrix) -> PerRow:
    """``WAIC = ELL - Var_m[ll_m]``, nats. Low where a row is not known.

    The first term is ELL, not the mean of ``ll_m``.

    Reference: Watanabe, JMLR 2010; for unknown inputs Choi, Jang and Alemi, *WAIC, but Why?*, 2018.

    Example:
        >>> waic(np.array([[-1.0, -5.0], [-1.0, -7.0]])).round(3).tolist()
        [-1.0, -7.566]
    """
    return expected_log_likelihood(ll) - np.var(ll, axis=0, ddof=1)
