"""The expected log-likelihood: log p(x) of a posterior over weights."""

import numpy as np
from scipy.special import logsumexp

from curvae.evaluation.ood.likelihood_matrix import Matrix, PerRow


def expected_log_likelihood(ll: Matrix) -> PerRow:
    r"""``ELL = log 1/M sum_m exp(ll_m)``, nats: at least the mean of ``ll_m``. Low where a row is not known.

    Reference: Glazunov and Zarras, *Do Bayesian Variational Autoencoders Know What They Don't Know?*, UAI 2022.

    Example:
        >>> expected_log_likelihood(np.array([[-1.0, -5.0], [-1.0, -7.0]])).round(3).tolist()
        [-1.0, -5.566]
    """
    return np.asarray(logsumexp(ll, axis=0)) - np.log(len(ll))
