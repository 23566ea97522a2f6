"""The layerwise route: J by plain matrix products, for any chain of linear and elementwise layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import kernel, layers
from curvae.curvature.decoded import Decoded
from curvae.curvature.route import Local, Point, Product, assemble, informed, missed
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum


class Layerwise(Decoded):
    """J layer by layer, for a chain of linear and elementwise layers."""

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return not model.autoregressive and bool(layers.chain(model.decoder))

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        eta, slopes = layers.linearize(self.parts, z)
        return self._part(eta, slopes, z)

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        eta, slopes = layers.linearize(self.parts, z)
        return self._level(eta), layers.pull(self.parts, slopes, self._score(eta))

    def point(self, z: Float[Tensor, "B D"]) -> Point:
        eta, slopes = layers.linearize(self.parts, z)
        return Point(z, self._level(eta) + self.model.prior.log_prob(z), (eta, *layers.kept(slopes)))

    def grad_at(self, point: Point) -> Float[Tensor, "B D"]:
        eta, *kept = point.kept
        slopes = layers.restored(self.parts, kept)
        return layers.pull(self.parts, slopes, self._score(eta)) + self.model.prior.score(point.z)

    def local_at(self, point: Point) -> Local:
        eta, *kept = point.kept
        part, prior = self._part(eta, layers.restored(self.parts, kept), point.z), self.model.prior
        return Local(point.log_joint, part.grad + prior.score(point.z), part.precision + prior.precision(point.z))

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        eta, slopes = layers.linearize(self.parts, z)
        left = missed(self.model, self.batch, eta, layers.push(self.parts, slopes, step))
        return layers.pull(self.parts, slopes, left)

    def likelihood_product(self, point: Point) -> Product:
        eta, *kept = point.kept
        slopes, bend = layers.restored(self.parts, kept), informed(self.model, self.batch, eta)
        return lambda v: layers.pull(self.parts, slopes, bend(layers.push(self.parts, slopes, v)))

    @property
    def parts(self) -> list[nn.Module]:
        """The layers of the decoder."""
        return layers.chain(self.model.decoder) or []

    def _part(self, eta: Float[Tensor, "B P"], slopes: layers.Slopes, z: Float[Tensor, "B D"]) -> Local:
        """The likelihood's part from eta and the slopes of the layers.

        Over active units alone for a ReLU chain, a linear layer after it and an information without cross terms.
        """
        *hidden, last = self.parts
        known = layers.is_relu_chain(hidden) and isinstance(last, nn.Linear) and kernel.usable(eta)
        diagonal = self.model.likelihood.diagonal(eta, self.batch.mask) if known else None
        if diagonal is None:
            return assemble(self.model, self.batch, eta, layers.rows(self.parts, slopes, z))
        weights = [layer.weight for layer in self.parts if isinstance(layer, nn.Linear)]
        masks = [slope > 0 for slope in slopes if slope is not None]
        every = torch.ones_like(diagonal, dtype=torch.bool)
        precision = kernel.relu_precision(weights, [*masks, every], diagonal.unsqueeze(1))
        return Local(self._level(eta), layers.pull(self.parts, slopes, self._score(eta)), precision)

    def _level(self, eta: Float[Tensor, "B P"]) -> PerDatum:
        return self.model.likelihood.log_prob(self.batch.x, eta, self.batch.mask)

    def _score(self, eta: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        return self.model.likelihood.score(self.batch.x, eta, self.batch.mask)
