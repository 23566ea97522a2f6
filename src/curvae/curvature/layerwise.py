"""The layerwise route: J by plain matrix products, for any chain of linear and elementwise layers."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.curvature import layers
from curvae.curvature.route import Local, Route, assemble, chosen, missed
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum


class Layerwise(Route):
    """J layer by layer, for a chain of linear and elementwise layers."""

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return not model.autoregressive and bool(layers.chain(model.decoder))

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Layerwise":
        return cls(model, batch)

    def __init__(self, model: LatentVariableModel, batch: Batch):
        super().__init__(model)
        self.batch = batch

    def take(self, rows: Int[Tensor, " n"]) -> "Layerwise":
        return Layerwise(self.model, chosen(self.batch, rows))

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.model.log_likelihood(self.batch.x, z, self.batch.mask)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        eta, slopes = layers.linearize(self.parts, z)
        return assemble(self.model, self.batch, eta, layers.rows(self.parts, slopes, z))

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        eta, slopes = layers.linearize(self.parts, z)
        left = missed(self.model, self.batch, eta, layers.push(self.parts, slopes, step))
        return layers.pull(self.parts, slopes, left)

    @property
    def parts(self) -> list[nn.Module]:
        """The layers of the decoder."""
        return layers.chain(self.model.decoder) or []
