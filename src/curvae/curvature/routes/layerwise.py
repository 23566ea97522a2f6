"""The layerwise route: J by plain matrix products, for any chain of linear and elementwise layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature.linearization import Linearization, Product
from curvae.curvature.native import kernel
from curvae.curvature.routes import layers
from curvae.curvature.routes.decoder_route import Observed, fisher_product, score_and_precision
from curvae.model import LatentVariableModel
from curvae.typing import Batch, Matrix


class Layerwise(Linearization):
    """J layer by layer, for a chain of linear and elementwise layers."""

    batched = True
    locally_constant = False
    frame: Observed

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return model.by_latents_alone and bool(layers.chain(model.decoder))

    @classmethod
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Layerwise":
        return cls(Observed(model, batch), z)

    def _evaluated(self) -> tuple[Tensor, ...]:
        eta, slopes = layers.forward_with_slopes(self._layers, self.z)
        batch, prior = self.frame.batch, self.model.prior
        level = self.model.likelihood.log_prob(batch.x, eta, batch.mask)
        return (level + prior.log_prob(self.z), eta, *layers.slope_tensors(slopes))

    def _score(self) -> Float[Tensor, "B P"]:
        return self.model.likelihood.score(self.frame.batch.x, self.tensors[1], self.frame.batch.mask)

    @property
    def push(self) -> Product:
        return lambda v: layers.push(self._layers, self._slopes, v)

    @property
    def pull(self) -> Product:
        return lambda u: layers.pull(self._layers, self._slopes, u)

    @property
    def inform(self) -> Product:
        return fisher_product(self.model, self.frame.batch, self.tensors[1])

    def _likelihood(self) -> tuple[Float[Tensor, "B D"], Matrix]:
        """Over active units alone for a ReLU chain, a linear layer after it and an information without cross terms."""
        eta, batch, (*hidden, last) = self.tensors[1], self.frame.batch, self._layers
        known = layers.is_relu_chain(hidden) and isinstance(last, nn.Linear) and kernel.usable(eta)
        diagonal = self.model.likelihood.diagonal(eta, batch.mask) if known else None
        if diagonal is None:
            return score_and_precision(self.model, batch, eta, layers.jacobian_rows(self._layers, self._slopes, self.z))
        weights = [layer.weight for layer in self._layers if isinstance(layer, nn.Linear)]
        masks = [slope > 0 for slope in self._slopes if slope is not None]
        every = torch.ones_like(diagonal, dtype=torch.bool)
        precision = kernel.relu_precision(weights, [*masks, every], diagonal.unsqueeze(1))
        return self.pull(self._score()), precision

    @property
    def _layers(self) -> list[nn.Module]:
        """Those of the decoder."""
        return layers.chain(self.model.decoder) or []

    @property
    def _slopes(self) -> layers.Slopes:
        return layers.slopes_from(self._layers, list(self.tensors[2:]))
