"""Writing an affine map into a network of ReLU layers, exactly."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.networks.conditioned import layers_of
from curvae.networks.identifiable import IdentifiableDecoder
from curvae.networks.mlp import Front
from curvae.networks.modulated import ModulatedMLP


def linear_capacity(network: nn.Module) -> int:
    """How many values a network can carry from its input to its output linearly; 0 where it cannot be written into.

    It must be layers of ``nn.Linear`` with biases, between them an activation a with ``a(t) - a(-t)`` proportional to
    t: ReLU, LeakyReLU, SiLU, GELU and their like, but no tanh. Each value takes two units of every hidden layer. A
    :class:`ModulatedMLP` carries what its shared network does, an :class:`IdentifiableDecoder` all of its latents.

    Example:
        >>> from curvae.networks import MLP
        >>> [linear_capacity(MLP(10, hidden, 4)) for hidden in ([32, 20], [])]
        [10, 4]
        >>> linear_capacity(MLP(10, [32], 4, nn.Tanh))
        0
    """
    if isinstance(network, IdentifiableDecoder):
        return network.latent
    if (layers := _layers(network)) is None:
        return 0
    linear, _ = layers
    if len(linear) == 1:
        return min(linear[0].in_features, linear[0].out_features)
    return min(each.out_features for each in linear[:-1]) // 2


@torch.no_grad()
def write_affine(
    network: nn.Module,
    inward: Float[Tensor, "R I"],
    offset: Float[Tensor, " R"],
    outward: Float[Tensor, "O R"],
    bias: Float[Tensor, " O"],
) -> None:
    """Make the first O outputs of a network ``outward (inward x + offset) + bias``; other outputs stay as they are.

    The first 2 R units of each hidden layer carry ``+v`` and ``-v``, read nothing else, and are all that these outputs
    read at first; every other weight keeps its value, and learns as it would. What modulates a network is at rest then.
    An identifiable decoder becomes the map to first order around 0.

    Raises:
        ValueError: the network cannot carry R values; see :func:`linear_capacity`.
    """
    if len(inward) > linear_capacity(network):
        raise ValueError(
            f"write_affine: expected a network that carries {len(inward)} values, got {linear_capacity(network)}."
        )
    if isinstance(network, IdentifiableDecoder):
        network.start_from(outward @ inward, outward @ offset + bias)
        return
    if isinstance(network, ModulatedMLP):
        network.rest()
    linear, gains = _layers(network) or ([], [])
    first, last = linear[0], linear[-1]
    if len(linear) == 1:
        _fill(first, slice(len(bias)), outward @ inward, outward @ offset + bias)
        return
    both = torch.cat([torch.eye(len(inward)), -torch.eye(len(inward))]).to(inward)
    units = slice(len(both))
    _fill(first, units, both @ inward, both @ offset)
    for layer, gain in zip(linear[1:-1], gains[:-1], strict=True):
        _fill(layer, units, both @ both.mT / gain, torch.zeros(len(both)))
    _fill(last, slice(len(bias)), outward @ both.mT / gains[-1], bias)


def _fill(layer: nn.Linear, rows: slice, weight: Tensor, bias: Tensor) -> None:
    """Rows of a layer: these weights for its first inputs, 0 for the others."""
    layer.weight[rows] = 0
    layer.weight[rows, : weight.shape[1]] = weight.to(layer.weight)
    layer.bias[rows] = bias.to(layer.bias)


def _layers(network: nn.Module) -> tuple[list[nn.Linear], list[float]] | None:
    """The linear layers, and the gain of the activation after each but the last; None where there is anything else."""
    network = network.shared if isinstance(network, ModulatedMLP) else layers_of(network)
    if isinstance(network, nn.Linear):
        return ([network], []) if network.bias is not None else None
    if not isinstance(network, nn.Sequential):
        return None
    parts = [part for part in network if not isinstance(part, nn.Flatten | nn.Identity | Front)]
    linear, between = parts[::2], parts[1::2]
    if len(parts) % 2 == 0 or not all(isinstance(each, nn.Linear) and each.bias is not None for each in linear):
        return None
    gains = [_gain(each) for each in between]
    return None if 0.0 in gains else (linear, gains)  # pyright: ignore[reportReturnType]


def _gain(activation: nn.Module) -> float:
    """C where ``a(t) - a(-t) = c t`` for all t, else 0."""
    if any(True for _ in activation.parameters()):
        return 0.0
    t = torch.tensor([0.1, 1.0, 3.0, 10.0], dtype=torch.float64)
    try:
        slope = (activation(t) - activation(-t)) / t
    except (RuntimeError, TypeError, ValueError):
        return 0.0
    linear = slope.shape == t.shape and bool(((slope - slope[0]).abs() < 1e-9).all())
    return float(slope[0]) if linear else 0.0
