"""The precision of the prior of weights, by the evidence of their Laplace approximation."""

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 50
"""Of the fixed-point iteration."""
PRECISIONS = (1e-6, 1e8)
"""Within which it stays."""


def evidence_precision(square: Float[Tensor, ""], curvature: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    r"""The ``lambda`` that maximizes the Laplace evidence of weights under ``N(0, I / lambda)``.

    ``log p(x | lambda) = const + W/2 log lambda - lambda/2 |theta|^2 - 1/2 sum_i log(h_i + lambda)`` where h are the
    eigenvalues of the curvature; by MacKay's fixed point ``lambda = gamma / |theta|^2``,
    ``gamma = sum_i h_i / (h_i + lambda)``.

    Reference: MacKay, *A Practical Bayesian Framework for Backpropagation Networks*, Neural Computation 1992.

    Args:
        square: ``|theta|^2`` at the mode.
        curvature: eigenvalues of ``-d2 log p(x | theta) / d theta2``, or its diagonal.

    Example:
        >>> evidence_precision(torch.tensor(4.0), torch.full((8,), 1e6)).item()   # all are well determined: 8 / 4
        1.999...
    """
    found = torch.ones_like(square)
    for _ in range(ROUNDS):
        effective = (curvature / (curvature + found)).sum()
        found = (effective / square.clamp(min=1e-12)).clamp(*PRECISIONS)
    return found
