"""The Gram route: nothing of size P for a point, where the last layer is linear and the information constant."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.curvature.routes import layers
from curvae.curvature.routes.compiled_problem import CompiledProblem
from curvae.curvature.routes.last_linear_route import LastLayerLinearization
from curvae.likelihoods import Quadratic
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum


@dataclass(frozen=True, eq=False)
class Expansion:
    """A quadratic log-likelihood ``log p(x | h) = l0 + c'(h - h0) - 1/2 (h - h0)' G (h - h0)`` of each example."""

    model: LatentVariableModel
    hidden: list[nn.Module]
    quadratic: Quadratic
    """The same around 0: what is differentiated."""
    origin: Float[Tensor, "B H"]
    """h0, near the points asked for, where differences are small."""
    level: PerDatum
    """l0."""
    slope: Float[Tensor, "B H"]
    """c."""
    variance: Float[Tensor, "B D"] | None = None

    @classmethod
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Expansion":
        """Around the hidden layer at z."""
        parts = LastLayerLinearization.split(model)
        assert parts is not None
        hidden, last = parts
        bias = last.bias if last.bias is not None else z.new_zeros(last.out_features)
        quadratic = model.likelihood.quadratic(batch.x, last.weight, bias)
        with torch.no_grad():
            origin = layers.forward(hidden, z)
            level, slope, gram = quadratic
            bend = origin @ gram
            level, slope = level + torch.linalg.vecdot(origin, slope - 0.5 * bend), slope - bend
        return cls(model, hidden, quadratic, origin, level, slope)

    @property
    def gram(self) -> Float[Tensor, "H H"]:
        """G."""
        return self.quadratic.gram

    def outer(self, value: Float[Tensor, "*S B H"]) -> tuple[Float[Tensor, "*S B"], Float[Tensor, "*S B H"]]:
        """``log p(x | h)`` and its slope."""
        return _Expanded.apply(value, *self.quadratic, self.origin, self.level, self.slope)  # pyright: ignore[reportReturnType]

    def take(self, rows: Int[Tensor, " n"]) -> "Expansion":
        level, slope, gram = self.quadratic
        quadratic = Quadratic(level[rows], slope[rows], gram)
        own = (self.origin[rows], self.level[rows], self.slope[rows])
        return Expansion(self.model, self.hidden, quadratic, *own)

    @cached_property
    def compiled(self) -> CompiledProblem | None:
        """As the compiled code reads it; None where it cannot."""
        return CompiledProblem.of(self.model, self.hidden, (self.gram, self.level, self.origin, self.slope))


class Gram(LastLayerLinearization):
    """With the decoder's last layer W, from H to P values, and constant information F, nothing has size P.

    ``G = W'FW``, H by H, is formed once, and the (quadratic) log-likelihood expanded around one point h0 of the last
    hidden layer. That pays where P > H; for ReLU chains, which compiled code knows, wherever G is no larger than the
    decoder.
    """

    frame: Expansion

    def __init__(
        self,
        frame: Expansion,
        z: Float[Tensor, "B D"],
        tensors: tuple[Tensor, ...] | None = None,
        activations: list[Tensor] | None = None,
    ):
        super().__init__(frame, z, tensors)
        self.activations = activations
        """What the hidden layers give at z, where a search has left it."""

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        parts = cls.split(model)
        return (
            parts is not None
            and batch.mask is None
            and model.likelihood.information == "constant"
            and (_wide(parts[1]) or (layers.is_relu_chain(parts[0]) and _small(*parts)))
        )

    @classmethod
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Gram":
        return cls(Expansion.of(model, batch, z), z)

    @property
    def cheap(self) -> bool:
        """Whether :meth:`log_likelihood` costs less than the decoder's output."""
        parts = self.split(self.model)
        return parts is not None and _wide(parts[1])

    @property
    def locally_constant(self) -> bool:
        pieces = (nn.Linear, *layers.PIECEWISE_LINEAR)
        return self.model.prior.quadratic and all(isinstance(layer, pieces) for layer in self.frame.hidden)


def _wide(last: nn.Linear) -> bool:
    """Whether P > H."""
    return last.out_features > last.in_features


def _small(hidden: list[nn.Module], last: nn.Linear) -> bool:
    """Whether G has no more entries than the weights of the layers together."""
    return last.in_features**2 <= sum(layer.weight.numel() for layer in (*hidden, last) if isinstance(layer, nn.Linear))


class _Expanded(torch.autograd.Function):
    """``log p(x | h)`` and its slope: the values around h0, the derivatives around 0, which are shorter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Tensor, _level: Tensor, _slope: Tensor, gram: Tensor, origin: Tensor, level: Tensor, pitch: Tensor
    ) -> tuple[Tensor, Tensor]:
        offset = value - origin
        slope = pitch - offset @ gram
        return level + 0.5 * torch.linalg.vecdot(offset, pitch + slope), slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0], inputs[3], output[1])

    @staticmethod
    def backward(ctx: Any, dlevel: Tensor | None, dslope: Tensor | None) -> tuple[Tensor | None, ...]:
        value, gram, slope = ctx.saved_tensors
        dlevel = value.new_zeros(value.shape[:-1]) if dlevel is None else dlevel
        assert dlevel is not None
        along = dlevel.unsqueeze(-1) * value
        dvalue, half = dlevel.unsqueeze(-1) * slope, -0.5 * along
        if dslope is not None:
            dvalue, along, half = dvalue - dslope @ gram, along + dslope, half - dslope
        dgram = value.flatten(0, -2).mT @ half.flatten(0, -2)
        if value.ndim > 2:  # several draws of each example
            dlevel, along = dlevel.flatten(0, -2).sum(0), along.flatten(0, -3).sum(0)
        return dvalue, dlevel, along, dgram, None, None, None
