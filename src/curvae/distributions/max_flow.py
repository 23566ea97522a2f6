"""The exact maximum of a supermodular pairwise function of binary variables, by a minimum cut."""

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

UNITS = 2**30
"""Whole units that the capacities of a graph sum to, as SciPy's flows are 32-bit integers."""


def maximize_pairwise(single: Float[NDArray, "M N"], pair: Float[NDArray, "M N N"]) -> Shaped[NDArray, "M N"]:
    """``argmax_b sum_i single_i b_i + sum_{i<j} pair_ij b_i b_j`` over b in {0, 1}^N, for M problems.

    With ``a_i = single_i + 1/2 sum_j pair_ij`` the function is
    ``sum_i a_i b_i - 1/2 sum_{i<j} pair_ij |b_i - b_j|``: a cut of a graph that joins the source to i by a_i where that
    is positive, i to the sink by -a_i where it is not, and i to j by half their pair. What stays with the source is on.

    Capacities are rounded to 2^-30 of their sum: the maximum is exact up to ``N^2 2^-30`` of it.

    Args:
        single: the value of each variable being on.
        pair: the value >= 0 of two being on together, symmetric, 0 on the diagonal.

    Raises:
        ValueError: a negative pair, for which no cut is the maximum.

    Reference: after Lorberbom, Gane, Jaakkola and Hazan, NeurIPS 2019, who solve the structured argmax by max-flow.

    Example:
        >>> maximize_pairwise(np.array([[-1.0, -1.0]]), np.array([[[0.0, 3.0], [3.0, 0.0]]])).tolist()   # only together
        [[True, True]]
    """
    if (pair < 0).any():
        raise ValueError(f"maximize_pairwise: expects pairs >= 0; got {pair.min():.3g}. A cut needs such pairs.")
    return np.stack([_cut(*one) for one in zip(single, pair, strict=True)])


def _cut(single: NDArray, pair: NDArray) -> NDArray:
    from scipy.sparse import csr_array  # a third of a second to import, for one posterior
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    count = len(single)
    pull = single + 0.5 * pair.sum(1)
    capacity = np.zeros((count + 2, count + 2))
    capacity[:count, :count] = 0.5 * pair
    capacity[count, :count] = pull.clip(min=0)
    capacity[:count, count + 1] = (-pull).clip(min=0)
    total = capacity.sum()
    if not (np.isfinite(total) and total > 0):
        return pull > 0
    whole = np.rint(capacity * (UNITS / total)).astype(np.int32)
    flow = maximum_flow(csr_array(whole), count, count + 1).flow.toarray()
    left = csr_array(whole - flow > 0)
    kept = np.zeros(count + 2, dtype=bool)
    kept[breadth_first_order(left, count, return_predecessors=False)] = True
    return kept[:count]
