"""Routes that know the last hidden layer: a decoder that ends in a linear layer, one matrix G for its information."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import kernel, layers
from curvae.curvature.route import Local, Point, Product, Route
from curvae.model import LatentVariableModel
from curvae.typing import Matrix, PerDatum


class Hidden(Route):
    """``Lam = M'GM + prior precision``: M is the Jacobian of the hidden layers, ``G = W'FW`` the same for all data."""

    hidden: list[nn.Module]
    gram: Float[Tensor, "H H"]

    @staticmethod
    def split(model: LatentVariableModel) -> tuple[list[nn.Module], nn.Linear] | None:
        """The hidden layers and the linear one after them, or None for any other decoder."""
        parts = None if model.autoregressive else layers.chain(model.decoder)
        if not parts or not isinstance(parts[-1], nn.Linear):
            return None
        return parts[:-1], parts[-1]

    @abstractmethod
    def _outer(self, value: Float[Tensor, "*S B H"]) -> tuple[Float[Tensor, "*S B"], Float[Tensor, "*S B H"]]:
        """``log p(x | h)`` and its slope."""

    def log_likelihood(self, z: Float[Tensor, "*S B D"]) -> Float[Tensor, "*S B"]:
        return self._outer(layers.forward(self.hidden, z))[0]

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._outer(value)
        return level, layers.pull(self.hidden, slopes, slope)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._outer(value)
        return Local(level, layers.pull(self.hidden, slopes, slope), self._precision(slopes, z))

    def point(self, z: Float[Tensor, "B D"]) -> Point:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._outer(value)
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
        return layers.pull(self.hidden, slopes, self._outer(value)[1] - bend)
