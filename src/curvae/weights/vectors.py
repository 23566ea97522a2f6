"""All weights of a network as one vector, W numbers in the order of its parameters, and back."""

from copy import deepcopy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

WeightVector = Float[Tensor, " W"]


def check_weights(network: nn.Module) -> None:
    """The door of every posterior over weights.

    Raises:
        ValueError: a network without parameters, or one that normalizes by running statistics: these belong to one
            set of weights, and would be wrong for every other.
    """
    if not any(True for _ in network.parameters()):
        raise ValueError("weights: expected a decoder with parameters, got none; there is nothing to be uncertain of.")
    for name, module in network.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise ValueError(
                f"weights: expected a decoder without running statistics, got {type(module).__name__} at {name!r}, "
                "whose statistics belong to one set of weights alone; use LayerNorm or GroupNorm."
            )


def weight_vector(network: nn.Module) -> WeightVector:
    """All weights; a gradient reaches them.

    Example:
        >>> weight_vector(nn.Linear(3, 2)).shape
        torch.Size([8])
    """
    return torch.cat([each.reshape(-1) for each in network.parameters()])


def named_weights(network: nn.Module, vector: WeightVector, prefix: str = "") -> dict[str, Tensor]:
    """The parameters that a vector stands for, by name, as ``torch.func.functional_call`` takes them."""
    named = dict(network.named_parameters())
    parts = vector.split([each.numel() for each in named.values()])
    return {prefix + name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}


@torch.no_grad()
def load_weights(network: nn.Module, vector: WeightVector) -> None:
    """Give a network these weights."""
    for name, value in named_weights(network, vector).items():
        network.get_parameter(name).copy_(value)


def with_weights(network: nn.Module, vector: WeightVector) -> nn.Module:
    """A copy of a network that has these weights."""
    copy = deepcopy(network)
    load_weights(copy, vector)
    return copy


def group_slices(network: nn.Module) -> list[slice]:
    """Where the numbers of each parameter are in the vector.

    Example:
        >>> group_slices(nn.Linear(3, 2))
        [slice(0, 6, None), slice(6, 8, None)]
    """
    ends = [0]
    for each in network.parameters():
        ends.append(ends[-1] + each.numel())
    return [slice(*pair) for pair in pairwise(ends)]


def normal_vector(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers in the shape of ``like``, drawn where the generator is."""
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
