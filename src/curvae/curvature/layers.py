"""Reading a decoder as a chain of linear and elementwise layers, and its Jacobian along the way."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.typing import Latent

ELEMENTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.SiLU,
    nn.GELU,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardtanh,
    nn.Identity,
)


def chain(decoder: nn.Module) -> list[nn.Module] | None:
    """The linear and elementwise layers of a sequential decoder, or None if it is anything else.

    Example:
        >>> from torch import nn
        >>> len(chain(nn.Sequential(nn.Linear(2, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 3)))))
        3
        >>> chain(nn.Sequential(nn.Linear(2, 5), nn.LayerNorm(5))) is None
        True
    """
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


def forward(layers: list[nn.Module], z: Latent) -> Tensor:
    """The value alone."""
    for layer in layers:
        z = layer(z)
    return z


def propagate(layers: list[nn.Module], z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B D H"]]:
    """The value at z and the transposed Jacobian there: row d of an item is ``d value / d z_d``.

    Linear layers act on the rows as on data; elementwise layers scale them by their slope.
    """
    value = z
    rows = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).expand(*z.shape, z.shape[-1])
    for layer in layers:
        if isinstance(layer, nn.Linear):
            rows = rows @ layer.weight.mT
            value = layer(value)
        else:
            value, slope = _slope(layer, value)
            rows = rows * slope.unsqueeze(-2)
    return value, rows


def _slope(layer: nn.Module, value: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.ReLU):
        return value.relu(), (value > 0).to(value.dtype)
    out = torch.func.jvp(layer, (value,), (torch.ones_like(value),))
    return out[0], out[1]
