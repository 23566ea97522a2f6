"""Which of several estimates of one example is the headline: chosen by how far it can be trusted, never by value."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.likelihood.diagnostics import Estimates

PROPOSALS = ("laplace", "defensive", "own", "chains")
"""In the order in which they are preferred; a proposal's place is its code in ``evaluation.npz``."""
KHAT_GOOD = 0.5
"""Up to it weights have a finite variance, and the error of their mean is known."""
KHAT_BAD = 0.7
"""Above it an importance estimate and its error cannot be trusted."""


def select_proposal(found: Mapping[str, Estimates]) -> NDArray[np.int64]:
    """The code of each example's best proposal: the common one up to a k-hat of 0.5, elsewhere the smallest k-hat.

    So systems are compared by the same proposal wherever that one will do; where none will do, one is fitted to chains
    (:func:`curvae.evaluation.likelihood.scores.score_by_chains`). Ties, and data without any k-hat, go to the
    first in the order common, defensive, own. Looking at the estimates themselves would choose what errs high; k-hat
    errs the other way, as a large weight raises both it and the estimate.

    Example:
        >>> values = np.zeros(3)
        >>> laplace, own = (Estimates(*[values] * 4, np.array(k), values) for k in ([0.4, 0.9, 0.9], [0.1, 0.2, 1.0]))
        >>> [PROPOSALS[code] for code in select_proposal({"own": own, "laplace": laplace})]
        ['laplace', 'own', 'laplace']
    """
    codes = [code for code, name in enumerate(PROPOSALS) if name in found]
    khats = np.stack([found[PROPOSALS[code]].khat for code in codes])
    khats = np.where(np.isnan(khats), np.inf, khats)
    khats[0, khats[0] <= KHAT_GOOD] = -np.inf
    return np.array(codes)[khats.argmin(0)]


def pick(found: Mapping[str, Estimates], codes: NDArray[np.int64]) -> Estimates:
    """The estimates of the proposals of these codes, example by example."""
    rows = np.arange(len(codes))
    stacked = [found.get(name) or next(iter(found.values())) for name in PROPOSALS]
    return Estimates(*(np.stack(values)[codes, rows] for values in zip(*stacked, strict=True)))


def best_by_khat(found: Mapping[str, Estimates]) -> tuple[NDArray[np.int64], Estimates]:
    """Which proposal is best for each example, and what it says."""
    codes = select_proposal(found)
    return codes, pick(found, codes)
