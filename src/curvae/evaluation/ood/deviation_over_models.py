"""By how much models disagree on a row."""

import numpy as np

from curvae.evaluation.ood.likelihood_matrix import LikelihoodMatrix, PerRow


def deviation_over_models(matrix: LikelihoodMatrix) -> PerRow:
    """``std_m[ll_m]``, nats; 0 where it is not above the noise of importance sampling. High where a row is not known.

    Whether it is above, :attr:`LikelihoodMatrix.above_noise` says: without that test it measures the number of draws.

    Reference: Glazunov and Zarras, UAI 2022.

    Differences: the test.

    Example:
        >>> same, other = np.array([[-1.0], [-1.0], [-1.0]]), np.array([[-1.0], [-9.0], [-5.0]])
        >>> deviation_over_models(LikelihoodMatrix(np.stack([same, same]))).tolist()
        [0.0]
        >>> deviation_over_models(LikelihoodMatrix(np.stack([other, other]))).tolist()
        [4.0]
        >>> deviation_over_models(LikelihoodMatrix(np.stack([other, other[::-1]]))).tolist()
        [0.0]
    """
    return np.where(matrix.above_noise, matrix.deviation, 0.0)
