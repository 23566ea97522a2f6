"""Normalizations by their formulas, where torch's own derivatives end too early."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Formulas(TorchFunctionMode):
    """Layer and instance normalization meanwhile by elementary operations.

    Those of torch take mean and variance as constants in their second derivatives: the gradient of a Jacobian is wrong.

    Example:
        >>> layer = torch.nn.LayerNorm(3)
        >>> with Formulas():
        ...     out = layer(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> torch.allclose(out, layer(torch.tensor([[1.0, 2.0, 3.0]])))
        True
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (functional.layer_norm, torch.layer_norm):
            return _layer_norm(*args, **(kwargs or {}))
        if func is functional.instance_norm:
            return _instance_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    out = _standardized(input, tuple(range(-len(normalized_shape), 0)), eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return functional.instance_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    out = _standardized(input, tuple(range(2, input.ndim)), eps)
    out = out if weight is None else out * _by_channel(weight, input)
    return out if bias is None else out + _by_channel(bias, input)


def _standardized(values: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centered = values - values.mean(dims, keepdim=True)
    return centered * (centered.square().mean(dims, keepdim=True) + eps).rsqrt()


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.ndim - 2))
