"""What the routes that run the decoder itself have in common."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae.curvature.products import Products
from curvae.curvature.route import Point, Product, Route, chosen, missed
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum


class Decoded(Route):
    """A route that keeps the batch and decodes; any decoder will do."""

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return True

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Decoded":
        return cls(model, batch)

    def __init__(self, model: LatentVariableModel, batch: Batch):
        super().__init__(model)
        self.batch = batch

    def take(self, rows: Int[Tensor, " n"]) -> "Decoded":
        return type(self)(self.model, chosen(self.batch, rows))

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.model.log_likelihood(self.batch.x, z, self.batch.mask)

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        def decode(point: Tensor) -> Tensor:
            return self.model.decode(point, self.batch.x)

        eta, pull = torch.func.vjp(decode, z)[:2]
        tangent = torch.func.jvp(decode, (z,), (step,))[1]
        return pull(missed(self.model, self.batch, eta, tangent))[0]

    def products(self, z: Float[Tensor, "B D"]) -> Products:
        """The decoder, run once at z, and its products there."""
        return Products(self.model, self.batch, z)

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        near = self.products(z)
        return near.log_likelihood, near.likelihood_grad

    def likelihood_product(self, point: Point) -> Product:
        return self.products(point.z).likelihood_product
