"""How many models have a say in log p(x) of a row."""

import numpy as np
from scipy.special import softmax

from curvae.evaluation.ood.likelihood_matrix import Matrix, PerRow


def effective_models(ll: Matrix) -> PerRow:
    """``1 / sum_m w_m^2`` with ``w = softmax_m ll_m``, from 1 to M. Low where a row is not known: one model rules.

    Reference: Daxberger and Hernández-Lobato, *Bayesian Variational Autoencoders for Unsupervised Out-of-Distribution
    Detection*, 2019.

    Example:
        >>> effective_models(np.array([[-1.0, 0.0], [-1.0, -np.inf]])).tolist()
        [2.0, 1.0]
    """
    return 1 / np.square(softmax(ll, axis=0)).sum(0)
