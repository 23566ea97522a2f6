"""Decoders that end in a linear layer: nothing of size P where one matrix G holds the information of all data."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature.linearization import Frame, Linearization, Product
from curvae.curvature.native import kernel
from curvae.curvature.routes import layers
from curvae.model import LatentVariableModel
from curvae.typing import Matrix


class LastLayer(Frame, Protocol):
    """A batch, seen from the layer before the decoder's last, linear one."""

    hidden: list[nn.Module]
    gram: Float[Tensor, "H H"]

    def outer(self, value: Float[Tensor, "*S B H"]) -> tuple[Float[Tensor, "*S B"], Float[Tensor, "*S B H"]]:
        """``log p(x | h)`` and its slope."""
        ...


class LastLayerLinearization(Linearization):
    """``Lam = M'GM + prior precision``: M is the Jacobian of the hidden layers, ``G = W'FW`` the same for all data."""

    batched = True
    frame: LastLayer

    @staticmethod
    def split(model: LatentVariableModel) -> tuple[list[nn.Module], nn.Linear] | None:
        """The hidden layers and the linear one after them, or None for any other decoder."""
        parts = layers.chain(model.decoder) if model.by_latents_alone else None
        if not parts or not isinstance(parts[-1], nn.Linear):
            return None
        return parts[:-1], parts[-1]

    def log_likelihood(self, z: Float[Tensor, "*S B D"]) -> Float[Tensor, "*S B"]:
        """``log p(x | z)`` for any number of draws."""
        return self.frame.outer(layers.forward(self.frame.hidden, z))[0]

    def _evaluated(self) -> tuple[Tensor, ...]:
        value, slopes = layers.forward_with_slopes(self.frame.hidden, self.z)
        level, slope = self.frame.outer(value)
        return (level + self.model.prior.log_prob(self.z), slope, *layers.slope_tensors(slopes))

    def _score(self) -> Float[Tensor, "B H"]:
        return self.tensors[1]

    @property
    def push(self) -> Product:
        return lambda v: layers.push(self.frame.hidden, self._slopes, v)

    @property
    def pull(self) -> Product:
        return lambda u: layers.pull(self.frame.hidden, self._slopes, u)

    @property
    def inform(self) -> Product:
        return lambda u: u @ self.frame.gram

    def _likelihood(self) -> tuple[Float[Tensor, "B D"], Matrix]:
        """Over active units alone where the kernel can."""
        grad, hidden, gram = self.pull(self._score()), self.frame.hidden, self.frame.gram
        if layers.is_relu_chain(hidden) and kernel.usable(gram):
            weights = [layer.weight for layer in hidden if isinstance(layer, nn.Linear)]
            return grad, kernel.relu_precision(weights, [mask > 0 for mask in self._slopes if mask is not None], gram)
        rows = layers.jacobian_rows(hidden, self._slopes, self.z)
        return grad, rows @ gram @ rows.mT

    @property
    def _slopes(self) -> layers.Slopes:
        return layers.slopes_from(self.frame.hidden, list(self.tensors[2:]))
