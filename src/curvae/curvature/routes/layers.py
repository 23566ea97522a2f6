"""Reading a decoder as a chain of linear and elementwise layers, and its Jacobian along the way."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.networks import low_precision
from curvae.typing import Latent

PIECEWISE_LINEAR = (nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.Identity)
ELEMENTWISE = (
    *PIECEWISE_LINEAR,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.SiLU,
    nn.GELU,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
)


def chain(decoder: nn.Module) -> list[nn.Module] | None:
    """The linear and elementwise layers of a sequential decoder, or None if it is anything else.

    Layers with hooks, whose output is not theirs alone, and layers in half precision are something else, too.

    Example:
        >>> from torch import nn
        >>> len(chain(nn.Sequential(nn.Linear(2, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 3)))))
        3
        >>> chain(nn.Sequential(nn.Linear(2, 5), nn.LayerNorm(5))) is None
        True
    """
    if low_precision(decoder) or decoder._forward_hooks or decoder._forward_pre_hooks:
        return None
    if type(decoder) in (nn.Linear, *ELEMENTWISE):
        return [decoder]
    if type(decoder) is nn.Flatten and decoder.start_dim == 1:
        return []
    if not isinstance(decoder, nn.Sequential) or type(decoder).forward is not nn.Sequential.forward:
        return None
    parts = [chain(part) for part in decoder]
    if any(part is None for part in parts):
        return None
    return [layer for part in parts if part is not None for layer in part]


def is_relu_chain(layers: list[nn.Module]) -> bool:
    """Whether the layers are linear and ReLU in turns, a ReLU at the end."""
    kinds = [type(layer) for layer in layers]
    return len(kinds) > 0 and len(kinds) % 2 == 0 and kinds == [nn.Linear, nn.ReLU] * (len(kinds) // 2)


def forward(layers: list[nn.Module], z: Latent) -> Tensor:
    """The value alone."""
    for layer in layers:
        z = layer(z)
    return z


Slopes = list[Tensor | None]
"""What each layer's Jacobian needs, detached for ReLU: its output (B, H); its elementwise slope for other activations;
None for a linear layer."""


def forward_with_slopes(layers: list[nn.Module], z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B H"], Slopes]:
    """The value at z and what the Jacobian J there is made of."""
    slopes: Slopes = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            z, slope = layer(z), None
        elif isinstance(layer, nn.ReLU):
            z = z.relu()
            slope = z.detach()
        else:
            out = torch.func.jvp(layer, (z,), (torch.ones_like(z),))
            z, slope = out[0], out[1]
        slopes.append(slope)
    return z, slopes


def slope_tensors(slopes: Slopes) -> list[Tensor]:
    """The slopes that are tensors, for :func:`slopes_from`."""
    return [slope for slope in slopes if slope is not None]


def slopes_from(layers: list[nn.Module], tensors: list[Tensor]) -> Slopes:
    """The slopes that :func:`slope_tensors` gave the tensors of."""
    left = iter(tensors)
    return [None if isinstance(layer, nn.Linear) else next(left) for layer in layers]


def push(layers: list[nn.Module], slopes: Slopes, tangents: Float[Tensor, "B *T D"]) -> Float[Tensor, "B *T H"]:
    """``J v`` for any number of tangents v of each example: linear layers act on them as on data."""
    for layer, slope in zip(layers, slopes, strict=True):
        if slope is None:
            tangents = tangents @ _weight(layer).mT
        else:
            tangents = _scaled(layer, slope if tangents.ndim == 2 else slope.unsqueeze(-2), tangents)
    return tangents


def pull(layers: list[nn.Module], slopes: Slopes, cotangents: Float[Tensor, "B *T H"]) -> Float[Tensor, "B *T D"]:
    """``J'v`` for any number of cotangents v of each example."""
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        if slope is None:
            cotangents = cotangents @ _weight(layer)
        else:
            cotangents = _scaled(layer, slope if cotangents.ndim == 2 else slope.unsqueeze(-2), cotangents)
    return cotangents


def jacobian_rows(layers: list[nn.Module], slopes: Slopes, z: Float[Tensor, "B D"]) -> Float[Tensor, "B D H"]:
    """The transposed Jacobian: row d of an item is ``d value / d z_d``."""
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return push(layers, slopes, eye.expand(*z.shape, z.shape[-1]))


def _scaled(layer: nn.Module, slope: Tensor, vector: Tensor) -> Tensor:
    """``vector`` times the elementwise slope; for ReLU in one pass, no mask of floats made."""
    if isinstance(layer, nn.ReLU):
        return torch.ops.aten.threshold_backward(vector, slope, 0)
    return vector * slope


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight
