"""Kinds that run the decoder itself: any whose rows do not depend on one another."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae.curvature.linearization import Linearization, Product, take_rows
from curvae.curvature.routes.decoder_jacobians import Batched, Looped, Taking, vector_products
from curvae.curvature.routes.differentiable import decoding
from curvae.model import LatentVariableModel
from curvae.typing import Batch, Matrix


@dataclass(frozen=True, eq=False)
class Observed:
    """A model and its batch."""

    model: LatentVariableModel
    batch: Batch
    variance: Float[Tensor, "B D"] | None = None
    needs: Any = None
    """What one example takes of memory, where that is counted."""

    def take(self, rows: Int[Tensor, " n"]) -> "Observed":
        variance = None if self.variance is None else self.variance[rows]
        batch = take_rows(self.batch, rows)
        return replace(self, model=self.model.given(batch.context), batch=batch, variance=variance)


class DecoderLinearization(Linearization):
    """J along one vector: ``u -> J'u`` is the decoder's reverse pass, ``v -> J v`` the reverse pass of that.

    The decoder is run once for both. A product with Lam costs what two of its passes do.
    """

    locally_constant = False
    frame: Observed

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return True

    @property
    def batch(self) -> Batch:
        return self.frame.batch

    @property
    def batched(self) -> bool:
        return decoding(self.model, self.batch.x, self.z).batched

    def _score(self) -> Float[Tensor, "B P"]:
        return self.model.likelihood.score(self.batch.x, self._decoded.eta, self.batch.mask)

    @cached_property
    def push(self) -> Product:
        """
        Raises:
            ValueError: the decoder cannot be differentiated twice.
        """
        if decoding(self.model, self.batch.x, self.z).way.taking is Taking.ROWS:
            decoding(self.model, self.batch.x, self.z, products=True)
        _ = self._decoded.transposed
        return self._decoded.push

    @property
    def pull(self) -> Product:
        return self._decoded.pull

    @cached_property
    def inform(self) -> Product:
        return fisher_product(self.model, self.batch, self._decoded.eta)

    @cached_property
    def _decoded(self) -> Batched | Looped:
        """The decoder, run once at z, and its products there."""
        return vector_products(decoding(self.model, self.batch.x, self.z), self.z)


def fisher_product(model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"]) -> Product:
    """``v -> F v = R (R'v)`` with the expected information F of the likelihood at eta."""
    root, transposed = torch.func.vjp(lambda u: model.likelihood.root(eta, u, batch.mask), torch.zeros_like(eta))[:2]
    del root
    return lambda v: transposed(model.likelihood.root(eta, v, batch.mask))[0]


def score_and_precision(
    model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"], rows: Float[Tensor, "B D P"]
) -> tuple[Float[Tensor, "B D"], Matrix]:
    """``J's`` and ``J'FJ`` from eta and the transposed Jacobian."""
    mask = batch.mask
    score = model.likelihood.score(batch.x, eta, mask)
    root = model.likelihood.root(eta.unsqueeze(1), rows, None if mask is None else mask.unsqueeze(1))
    return torch.einsum("bdp,bp->bd", rows, score), root @ root.mT
