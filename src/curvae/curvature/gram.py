"""The Gram route: nothing of size P for a point, where the last layer is linear and the information constant."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.curvature import kernel, layers
from curvae.curvature.route import Local, Point, Product, Route
from curvae.model import LatentVariableModel
from curvae.typing import Batch, Matrix, PerDatum


class Gram(Route):
    """With the decoder's last layer W, from H to P > H values, and constant information F, nothing has size P.

    ``G = W'FW``, H by H, is formed once, and the (quadratic) log-likelihood expanded around one point h0 of the last
    hidden layer: ``log p(x | h) = l0 + c'(h - h0) - 1/2 (h - h0)' G (h - h0)``.
    """

    hidden: list[nn.Module]
    origin: Float[Tensor, "B H"]
    level: PerDatum
    pitch: Float[Tensor, "B H"]
    gram: Float[Tensor, "H H"]

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        parts = None if model.autoregressive else layers.chain(model.decoder)
        return (
            bool(parts)
            and batch.mask is None
            and model.likelihood.information == "constant"
            and isinstance(parts[-1], nn.Linear)
            and parts[-1].out_features > parts[-1].in_features
        )

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Gram":
        route = cls(model)
        *route.hidden, last = layers.chain(model.decoder) or []
        assert isinstance(last, nn.Linear)
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

    def log_likelihood(self, z: Float[Tensor, "*S B D"]) -> Float[Tensor, "*S B"]:
        return self._quadratic(layers.forward(self.hidden, z))[0]

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._quadratic(value)
        return level, layers.pull(self.hidden, slopes, slope)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._quadratic(value)
        return Local(level, layers.pull(self.hidden, slopes, slope), self._precision(slopes, z))

    def point(self, z: Float[Tensor, "B D"]) -> Point:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._quadratic(value)
        return Point(z, level + self.model.prior.log_prob(z), (slope, *layers.kept(slopes)))

    def grad_at(self, point: Point) -> Float[Tensor, "B D"]:
        slopes = self._slopes(point)
        return layers.pull(self.hidden, slopes, point.kept[0]) + self.model.prior.score(point.z)

    def local_at(self, point: Point) -> Local:
        precision = self._precision(self._slopes(point), point.z) + self.model.prior.precision(point.z)
        return Local(point.log_joint, self.grad_at(point), precision)

    def likelihood_product(self, point: Point) -> Product:
        slopes = self._slopes(point)
        return lambda v: layers.pull(self.hidden, slopes, layers.push(self.hidden, slopes, v) @ self.gram)

    def _slopes(self, point: Point) -> layers.Slopes:
        return layers.restored(self.hidden, list(point.kept[1:]))

    def _precision(self, slopes: layers.Slopes, z: Float[Tensor, "B D"]) -> Matrix:
        """``M'GM`` with M the Jacobian of the hidden layers: over active units alone where the kernel can."""
        if layers.is_relu_chain(self.hidden) and kernel.usable(self.gram):
            weights = [layer.weight for layer in self.hidden if isinstance(layer, nn.Linear)]
            return kernel.relu_precision(weights, [mask > 0 for mask in slopes if mask is not None], self.gram)
        rows = layers.rows(self.hidden, slopes, z)
        return rows @ self.gram @ rows.mT

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        value, slopes = layers.linearize(self.hidden, z)
        bend = layers.push(self.hidden, slopes, step) @ self.gram
        return layers.pull(self.hidden, slopes, self._quadratic(value)[1] - bend)

    def _quadratic(self, value: Float[Tensor, "*S B H"]) -> tuple[Float[Tensor, "*S B"], Float[Tensor, "*S B H"]]:
        offset = value - self.origin
        slope = self.pitch - offset @ self.gram
        return self.level + 0.5 * torch.linalg.vecdot(offset, self.pitch + slope), slope
