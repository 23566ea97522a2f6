"""Are two samples of one distribution? Kernel and classifier tests, with p-values that hold whatever the dimension."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.argument_checks import check_seed

PERMUTATIONS = 300
CROSSED = 20
"""The most dimensions for which the classifier also sees products of two of them."""


class Mmd(NamedTuple):
    """A kernel two-sample test."""

    squared: float
    """Unbiased estimate of the squared maximum mean discrepancy; 0 on average, and at times below, for equal ones."""
    p_value: float


class ClassifierTest(NamedTuple):
    """A classifier two-sample test."""

    accuracy: float
    """Share of held-out points whose sample was told right; 1/2 for equal distributions."""
    stderr: float
    p_value: float


def mmd(x: NDArray, y: NDArray, permutations: int = PERMUTATIONS, seed: int = 0) -> Mmd:
    r"""Unbiased squared MMD of two samples (N, D) and its permutation p-value.

    ``mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)`` with
    ``k(a, b) = exp(-|a - b|^2 / (2 s^2))``, s^2 half the median squared distance of the pooled points. The labels of
    the points are exchanged at random; the p-value, ``(1 + number as large) / (1 + permutations)``, is exact.

    Reference: Gretton, Borgwardt, Rasch, Schoelkopf and Smola, *A Kernel Two-Sample Test*, JMLR 2012, section 2.2.

    Example:
        >>> random = np.random.default_rng(0)
        >>> found = mmd(random.normal(size=(100, 2)), random.normal(size=(100, 2)) + 1)
        >>> found.squared > 0.1, round(found.p_value, 4)
        (True, 0.0033)
    """
    kernel, first = _kernel(np.concatenate([x, y])), np.zeros(len(x) + len(y))
    first[: len(x)] = 1
    check_seed(seed)
    random = np.random.default_rng(seed)
    labels = np.stack([first, *(random.permutation(first) for _ in range(permutations))], 1)
    values = _squared(kernel, labels)
    return Mmd(float(values[0]), float((1 + (values[1:] >= values[0]).sum()) / (1 + permutations)))


def _kernel(points: NDArray) -> NDArray:
    """Gaussian kernel of all pairs, 0 on the diagonal."""
    from scipy.spatial.distance import pdist, squareform

    squares = pdist(points, "sqeuclidean")
    return squareform(np.exp(-squares / max(np.median(squares), 1e-300)))


def _squared(kernel: NDArray, labels: NDArray) -> NDArray:
    """The unbiased estimate for each column of labels (2N, columns), 1 = of the first sample."""
    n = labels[:, 0].sum()
    m = len(labels) - n
    rows = kernel.sum(0)
    within = np.einsum("ip,ip->p", labels, kernel @ labels)
    beside = rows @ labels - within
    others = rows.sum() - 2 * beside - within
    return within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * beside / (n * m)


def classifier_test(x: NDArray, y: NDArray, seed: int = 0) -> ClassifierTest:
    """How well a logistic regression on squares and products tells two samples (N, D) apart, on half of the points.

    The other half trains it. The p-value is that of a fair coin with as many hits or more. It sees differences in
    means, variances and (up to 20 dimensions) correlations.

    Reference: Lopez-Paz and Oquab, *Revisiting Classifier Two-Sample Tests*, ICLR 2017.

    Example:
        >>> random = np.random.default_rng(0)
        >>> found = classifier_test(random.normal(size=(400, 2)), 2 * random.normal(size=(400, 2)))
        >>> found.accuracy > 0.6, found.p_value < 1e-3
        (True, True)
    """
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    check_seed(seed)
    random = np.random.default_rng(seed)
    points = [random.permutation(part) for part in (x, y)]
    halves = [np.concatenate([part[half::2] for part in points]) for half in (0, 1)]
    told = [np.concatenate([np.full(len(part[half::2]), i) for i, part in enumerate(points)]) for half in (0, 1)]
    crossed = [PolynomialFeatures(2, include_bias=False)] if x.shape[1] <= CROSSED else []
    if not crossed:
        halves = [np.concatenate([half, half**2], 1) for half in halves]
    machine = make_pipeline(StandardScaler(), *crossed, LogisticRegression(max_iter=1000)).fit(halves[0], told[0])
    right = machine.predict(halves[1]) == told[1]
    share = float(right.mean())
    p_value = float(binomtest(int(right.sum()), len(right), 0.5, alternative="greater").pvalue)
    return ClassifierTest(share, float(np.sqrt(share * (1 - share) / len(right))), p_value)
