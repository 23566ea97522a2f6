"""The Gram route: nothing of size P for a point, where the last layer is linear and the information constant."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.curvature import layers
from curvae.curvature.hidden import Hidden
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum


class Gram(Hidden):
    """With the decoder's last layer W, from H to P > H values, and constant information F, nothing has size P.

    ``G = W'FW``, H by H, is formed once, and the (quadratic) log-likelihood expanded around one point h0 of the last
    hidden layer: ``log p(x | h) = l0 + c'(h - h0) - 1/2 (h - h0)' G (h - h0)``.
    """

    origin: Float[Tensor, "B H"]
    level: PerDatum
    pitch: Float[Tensor, "B H"]

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        parts = cls.split(model)
        return (
            parts is not None
            and batch.mask is None
            and model.likelihood.information == "constant"
            and parts[1].out_features > parts[1].in_features
        )

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Gram":
        route, parts = cls(model), cls.split(model)
        assert parts is not None
        route.hidden, last = parts
        bias = last.bias if last.bias is not None else z.new_zeros(last.out_features)
        level, slope, route.gram = model.likelihood.quadratic(batch.x, last.weight, bias)
        # moved from 0 to near z, where differences are small; exact around any fixed point, so it needs no gradient
        with torch.no_grad():
            route.origin = layers.forward(route.hidden, z)
        bend = route.origin @ route.gram
        route.level, route.pitch = level + (route.origin * (slope - 0.5 * bend)).sum(-1), slope - bend
        return route

    @property
    def shorter(self) -> bool:
        return True

    @property
    def locally_constant(self) -> bool:
        return all(isinstance(layer, (nn.Linear, *layers.PIECEWISE_LINEAR)) for layer in self.hidden)

    def take(self, rows: Int[Tensor, " n"]) -> "Gram":
        part = Gram(self.model)
        part.hidden, part.gram = self.hidden, self.gram
        part.origin, part.level, part.pitch = self.origin[rows], self.level[rows], self.pitch[rows]
        return part

    def _outer(self, value: Float[Tensor, "*S B H"]) -> tuple[Float[Tensor, "*S B"], Float[Tensor, "*S B H"]]:
        offset = value - self.origin
        slope = self.pitch - offset @ self.gram
        return self.level + 0.5 * torch.linalg.vecdot(offset, self.pitch + slope), slope
