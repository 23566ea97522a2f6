"""Factor analysis: a noise variance for each element."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.linear.linear_gaussian import LinearGaussian

ROUNDS = 2000
EXACT = 100
"""Elements up to which each round takes a whole singular value decomposition; beyond, the leading part."""
POWER = 12
"""Iterations of that: with scikit-learn's 3, rounds end after five, 0.6 nats too early on 784 pixels."""


def factor_analysis(x: Float[Tensor, "N P"], latent: int, floor: float = 1e-6, rounds: int = ROUNDS) -> LinearGaussian:
    """The maximum-likelihood fit of ``x = W z + mean + noise``, noise of each element its own, by scikit-learn.

    An element that does not vary gets no weight and the least noise.

    Reference: Barber, *Bayesian Reasoning and Machine Learning*, algorithm 21.1, as scikit-learn has it.

    Args:
        x: the data.
        latent: number D of latent dimensions; at most P - 1.
        floor: the least variance of the noise.
        rounds: of the iteration, at most.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(2000, 1) @ torch.ones(1, 4) + torch.tensor([0.1, 0.2, 0.3, 0.4]) * torch.randn(2000, 4)
        >>> [round(v, 1) for v in factor_analysis(x, 1).noise.sqrt().tolist()]
        [0.1, 0.2, 0.3, 0.4]
    """
    from sklearn.decomposition import FactorAnalysis
    from sklearn.exceptions import ConvergenceWarning

    x = x.double()
    mean, scale = x.mean(0), x.std(0, unbiased=False)
    varies = scale.square() > floor
    size = max(min(latent, int(varies.sum()) - 1, len(x) - 1), 0)
    weight, noise = x.new_zeros(x.shape[1], size), torch.full_like(mean, floor)
    if size:
        some = _shortened(((x - mean) / scale)[:, varies])
        method = "lapack" if some.shape[1] <= EXACT else "randomized"
        solver = FactorAnalysis(
            size, tol=1e-7 * len(some), max_iter=rounds, svd_method=method, iterated_power=POWER, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a model all the same, a little less likely
            fitted = solver.fit(some.numpy())
        weight[varies] = torch.from_numpy(fitted.components_.T) * scale[varies].unsqueeze(1)
        noise[varies] = torch.from_numpy(fitted.noise_variance_) * scale[varies].square()
    else:
        noise = torch.maximum(scale.square(), noise)
    return LinearGaussian.rotated(mean, weight, noise.clamp(min=floor))


def _shortened(centered: Float[Tensor, "N P"]) -> Float[Tensor, "M P"]:
    """At most 2 P rows of the same mean, 0, and covariance: all that the fit goes by, and what each round costs."""
    count, width = centered.shape
    if count <= 2 * width:
        return centered
    root = torch.linalg.qr(centered, mode="r")[1] * (width / count) ** 0.5
    return torch.cat([root, -root])
