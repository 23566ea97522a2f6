"""A mode search as the compiled code reads it: the Gram route of a ReLU chain under a standard normal prior."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import native
from curvae.curvature.routes import layers
from curvae.linalg import LOG_2PI
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal


class CompiledProblem:
    """The layers and the quadratic log-likelihood of a batch, alive while C reads them.

    Args:
        linears: the linear layers, each followed by a ReLU.
        expansion: G, l0, h0 and c of ``log p(x | h) = l0 + c'(h - h0) - 1/2 (h - h0)' G (h - h0)``.
    """

    def __init__(self, linears: list[nn.Linear], expansion: tuple[Tensor, Tensor, Tensor, Tensor]):
        self.linear = [linear.weight for linear in linears], [_bias(linear) for linear in linears]
        self.weights, self.biases = ([one.detach().contiguous() for one in part] for part in self.linear)
        self.latent = self.weights[0].shape[1]
        gram, level, origin, slope = expansion
        quadratic = (gram, level - 0.5 * LOG_2PI * self.latent, origin, slope)
        self.quadratic = [one.detach().contiguous() for one in quadratic]
        self.widths = native.numbers(torch.int64, self.latent, *map(len, self.weights))

    @classmethod
    def of(
        cls, model: LatentVariableModel, hidden: list[nn.Module], expansion: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> "CompiledProblem | None":
        """None where the code does not know the layers, the prior or the numbers."""
        linears = [layer for layer in hidden if isinstance(layer, nn.Linear)]
        fitting = layers.is_relu_chain(hidden) and 0 < len(linears) <= native.LAYERS
        if not fitting or type(model.prior) is not StandardNormal or not native.available():
            return None
        tensors = [tensor for linear in linears for tensor in (linear.weight, _bias(linear))]
        kind = expansion[0].dtype
        alike = all(tensor.dtype == kind and native.in_plain_memory(tensor) for tensor in (*tensors, *expansion))
        return cls(linears, expansion) if alike and kind in (torch.float32, torch.float64) else None

    def reads(self, z: Tensor) -> bool:
        """Whether it can begin there, now."""
        return native.available() and self.quadratic[0].dtype == z.dtype

    def layers(self, z: Float[Tensor, "B D"]) -> list[Tensor]:
        """What the layers give at z."""
        values = [z.detach()]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            values.append(torch.nn.functional.linear(values[-1], weight, bias).relu_())
        return values[1:]

    def call(self, name: str, items: int, *rest: native.Argument) -> bool:
        """One call into C for all items; whether it went well."""
        given = (len(self.weights), self.widths, self.weights, self.biases, *self.quadratic)
        kind = self.quadratic[0].dtype
        return native.split(items, lambda _, first, last: native.call(name, kind, *given, first, last, *rest))


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
