"""From importance weights to what can be said of each example: log p(x), its error, and how far both can be trusted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, logsumexp

KHAT_DRAWS = 25
"""Fewest draws for a k-hat: a fifth of them is fitted, and the fit takes five values or more."""
ESS_BAD = 10
"""Below it a few lucky draws carry the estimate."""
MANY = 1e6
"""Degrees of freedom beyond which a variance is as good as known."""
UNDERFLOW = 600
"""Nats between the fitted weights beyond which the fit, which exponentiates them, silently returns a good k-hat."""

Array = NDArray[np.float64]


class Estimates(NamedTuple):
    """What S weights say of each example; all ``(B,)``."""

    log_likelihood: Array
    """``log sum_s exp(log_c_s + log_w_s)``, nats: its exponential is unbiased, so it errs low on average."""
    stderr: Array
    """Standard error of ``log_likelihood`` over the choice of draws, nats, right in the mean square over data."""
    ess: Array
    """Effective sample size, in draws."""
    elbo: Array
    """``sum_s exp(log_c_s) log_w_s``, nats."""
    khat: Array
    """Pareto shape of the largest weights; NaN with fewer than 25 draws."""
    limit: Array
    """Upper end of the 95 % confidence interval of ``stderr``, nats, which a single example is to be judged by."""


def estimate(log_w: Array, log_c: Array, stratum: NDArray[np.int64] | None = None) -> Estimates:
    r"""Log-likelihood, standard error, effective sample size, ELBO and k-hat from weights ``(S, B)``.

    With ``u_s = exp(log_c_s + log_w_s)`` and ``p = sum u``: ``ESS = p^2 / sum u^2`` and, by the delta method,
    ``stderr = sqrt(Var p) / p``, where ``Var p = sum_k n_k Var_k(u)`` over the strata k of n_k draws; a single stratum
    gives ``sd(w) / (sqrt(S) mean(w))``.

    That variance is itself an estimate, and a bad one where few weights carry it: ``limit^2 = stderr^2 n /
    chi2_{0.05}(n)`` with Welch's and Satterthwaite's degrees of freedom, ``n = 2 (Var p)^2 / Var(Var p)``, where
    ``Var(Var p) = sum_k V_k^2 (kurtosis_k - 1) / n_k`` and V_k is what a stratum adds to Var p.

    Args:
        log_w: log weights.
        log_c: mixing weights, ``logsumexp(log_c, 0) = 0``.
        stratum: which proposal each of the S draws came from, ``(S,)``, where they came from several. Draws of one
            proposal but of different mixing weight are taken as strata too.

    Example:
        >>> import numpy as np
        >>> found = estimate(np.full((100, 1), -3.0), np.full((100, 1), -np.log(100)))
        >>> [round(float(value[0]), 6) for value in found]   # equal weights: no error at all
        [-3.0, 0.0, 100.0, -3.0, 0.0, 0.0]
    """
    with np.errstate(all="ignore"):
        terms = log_c + log_w
        total = np.asarray(logsumexp(terms, axis=0))
        share = np.exp(terms - total)
        mixing = np.exp(log_c)
        elbo = np.where(mixing > 0, mixing * log_w, 0.0).sum(0)
        ess = 1 / np.square(share).sum(0)
        parts = [slice(None)] if stratum is None else [stratum == k for k in np.unique(stratum)]
        variance, doubt = np.sum([_variance(share[part], log_c[part]) for part in parts], axis=0)
        return Estimates(total, np.sqrt(variance), ess, elbo, khat(terms), np.sqrt(upper_end(variance, doubt)))


def upper_end(variance: Array, doubt: Array, level: float = 0.05) -> Array:
    """Where the one-sided 95 % confidence interval of a variance ends, its estimate having itself the variance doubt.

    Example:
        >>> upper_end(np.array([1.0]), np.array([2 / 15])).round(3).tolist()    # that of 16 normal values
        [2.066]
    """
    with np.errstate(all="ignore"):
        freedom = np.minimum(2 * np.square(variance) / doubt, MANY)
        return np.where(variance > 0, variance * freedom / chi2_quantile(level, freedom), variance)


def chi2_quantile(level: float, freedom: float | Array) -> np.float64 | Array:
    """That of :data:`scipy.stats.chi2`, whose package takes a second to import.

    Example:
        >>> float(chi2_quantile(0.05, 15.0).round(3))
        7.261
    """
    return 2 * gammaincinv(np.asarray(freedom) / 2, level)


def khat(terms: Array) -> Array:
    """Pareto k-hat of each column of log weights ``(S, B)``, by arviz-stats; about 0.4 ms an example at S = 500.

    Below 0.5 the weights have a finite variance; above 0.7 neither the estimate nor its error can be trusted. It is 0
    where the largest weights are equal (there is no tail), infinite where they differ by more than 600 nats (one draw
    carries all), and NaN where a weight is NaN or draws are fewer than 25.

    Reference: Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto smoothed importance sampling*, JMLR 2024.

    Example:
        >>> import numpy as np
        >>> pareto = np.random.default_rng(0).pareto(1.0, size=(2000, 1)) + 1     # true shape 1
        >>> bool(abs(khat(np.log(pareto)) - 1)[0] < 0.2)
        True
    """
    return smoothed_and_khat(terms)[1]


def pareto_smooth(terms: Array) -> Array:
    """Log weights ``(S, B)`` whose largest ``3 sqrt(S)`` are replaced by the quantiles of a Pareto fitted to them.

    The i-th largest becomes that of the generalized Pareto distribution at ``(i - 1/2) / M``, at most the largest
    weight there was; the others stay. It takes the luck of the largest draws away, so the sum of the weights is no
    longer an unbiased estimate, but varies less; where k-hat is above 0.7 it errs low, and smoothing does not mend it.
    Columns whose k-hat is not finite stay as they are.

    Reference: as :func:`khat`.

    Example:
        >>> import numpy as np
        >>> terms = np.random.default_rng(0).normal(size=(400, 1))
        >>> changed = pareto_smooth(terms) != terms
        >>> int(changed.sum()), bool(terms[changed].min() > terms[~changed].max())     # the 3 sqrt(400) largest
        (60, True)
    """
    return smoothed_and_khat(terms)[0]


def smoothed_and_khat(terms: Array) -> tuple[Array, Array]:
    """Log weights smoothed by a generalized Pareto law ``(S, B)`` and k-hat ``(B,)``."""
    from arviz_stats.base.array import array_stats  # its package takes a second to import

    fits = [_pareto(column, array_stats.psislw) for column in terms.T]
    smoothed = np.stack([column for column, _ in fits], axis=1) if fits else terms
    return smoothed, np.array([shape for _, shape in fits])


def _pareto(log_weights: Array, fit: Callable[..., Any]) -> tuple[Array, float]:
    if len(log_weights) < KHAT_DRAWS or np.isnan(log_weights).any() or not np.isfinite(log_weights.max()):
        return log_weights, np.nan
    order = np.argsort(log_weights)[-_tail(len(log_weights)) - 1 :]
    cut, tail = log_weights[order[0]], log_weights[order[1:]]
    if tail[0] == tail[-1]:
        return log_weights, 0.0
    if tail[-1] - tail[0] > UNDERFLOW:
        return log_weights, np.inf
    with np.errstate(all="ignore"):
        # psislw takes minus the log weights, as PSIS-LOO has them, and gives them back normalized
        found, shape = fit(-log_weights)
    if not np.isfinite(shape):
        return log_weights, np.inf
    smoothed = log_weights.copy()
    smoothed[order[1:]] = found[order[1:]] + (cut - found[order[0]])
    return (smoothed if np.isfinite(smoothed[order[1:]]).all() else log_weights), float(shape)


def _tail(count: int) -> int:
    """How many of the largest weights are fitted."""
    return int(3 * count**0.5) if count > 225 else count // 5


def _variance(share: Array, log_c: Array) -> tuple[Array, Array]:
    """``sum_k n_k Var_k(share)`` for each example, and the variance of that; strata are draws of equal mixing weight.

    Strata that share a mixing weight are taken as one, which errs on the large side; a stratum of one draw (an
    enumerated state) adds nothing.
    """
    count = len(share)
    if np.ptp(log_c, axis=0).max(initial=0.0) >= 1e-6:
        pairs = [_stratified(*column) for column in zip(share.T, log_c.T, strict=True)]
        return np.array([v for v, _ in pairs]), np.array([d for _, d in pairs])
    if count == 1:
        return np.full(share.shape[1], np.nan), np.full(share.shape[1], np.nan)
    offset = share - share.mean(0)
    return _moments(np.square(offset).mean(0), np.power(offset, 4).mean(0), np.array(float(count)))


def _stratified(share: Array, log_c: Array) -> tuple[float, float]:
    _, stratum = np.unique(np.round(log_c, 4), return_inverse=True)
    size = np.bincount(stratum).astype(np.float64)
    offset = share - (np.bincount(stratum, share) / size)[stratum]
    second, fourth = (np.bincount(stratum, np.power(offset, power)) / size for power in (2, 4))
    variance, doubt = _moments(second, fourth, size)
    return float(variance[size > 1].sum()), float(doubt[size > 1].sum())


def _moments(second: Array, fourth: Array, size: Array) -> tuple[Array, Array]:
    """``n Var`` with n - 1 in the denominator, and ``Var(n Var) = n (m4 - m2^2)`` times its square."""
    unbiased = size / np.maximum(size - 1, 1)
    return size * unbiased * second, size * np.square(unbiased) * np.maximum(fourth - np.square(second), 0.0)
