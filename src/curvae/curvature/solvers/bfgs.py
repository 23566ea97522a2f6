"""A precision corrected by what the gradient has done since it was formed: BFGS without a matrix of its own."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae import linalg
from curvae.typing import Matrix, PerDatum

CAUTION = 0.1
"""A step is learned from where the curvature along it is this share of what was expected, or more."""


class BFGS(NamedTuple):
    """Lam at one point, and the steps s taken since with the fall y of the gradient along each.

    The corrected matrix B maps every s to its y as far as one matrix can (the BFGS update of Lam, one pair after the
    other); ``B^-1 v`` takes one solve with the factor of Lam and two products with each pair. Pairs are kept only where
    ``s'y`` is at least ``CAUTION`` times ``s'Bs``, so B stays positive definite: between two kinks of a ReLU decoder it
    need not be.

    Reference: Nocedal and Wright, *Numerical Optimization*, 2006, algorithm 7.4 (two-loop recursion).
    """

    factor: Matrix
    steps: Float[Tensor, "B k D"]
    falls: Float[Tensor, "B k D"]
    weights: Float[Tensor, "B k"]
    """1 / s'y, 0 where a pair is not used."""

    @classmethod
    def of(cls, precision: Matrix) -> "BFGS":
        """Lam itself."""
        none = precision.new_empty(len(precision), 0, precision.shape[-1])
        return cls(linalg.cholesky(precision)[0], none, none, none[..., 0])

    def solve(self, vector: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``B^-1 v``."""
        pairs = list(zip(*(part.unbind(1) for part in self[1:]), strict=True))
        shares: list[Tensor] = []
        for s, y, weight in reversed(pairs):
            shares.append((weight * torch.linalg.vecdot(s, vector)).unsqueeze(-1))
            vector = vector - shares[-1] * y
        vector = linalg.solve_spd(self.factor, vector)
        for (s, y, weight), share in zip(pairs, reversed(shares), strict=True):
            vector = vector + (share - (weight * torch.linalg.vecdot(y, vector)).unsqueeze(-1)) * s
        return vector

    def after(
        self, step: Float[Tensor, "B D"], fall: Float[Tensor, "B D"], expected: PerDatum, taken: Bool[Tensor, " B"]
    ) -> "BFGS":
        """With one more pair, ``expected`` being s'Bs.

        Where the step was tried in vain, and teaches nothing either, all pairs are forgotten: they led nowhere.
        """
        curvature = torch.linalg.vecdot(step, fall)
        learned = (curvature > CAUTION * expected) & curvature.isfinite()
        weights = torch.where((learned | taken).unsqueeze(1), self.weights, 0.0)
        weight = torch.where(learned, 1 / curvature, 0.0)
        step, fall = (torch.where(learned.unsqueeze(-1), new, 0.0) for new in (step, fall))  # they may be infinite
        new = (step, fall, weight)
        pairs = (torch.cat([old, one.unsqueeze(1)], 1) for old, one in zip((*self[1:3], weights), new, strict=True))
        return BFGS(self.factor, *pairs)
