r"""The diagonal of the Gauss-Newton matrix of a network of layers, ``sum_n diag(J_n' F_n J_n)``, from the output back.

``M_L = F`` at the output, and ``M_{l-1} = J_l' M_l J_l`` through each layer; of a linear layer ``y = W h + b`` the
weight ``W_ij`` has curvature ``(M_l)_ii h_j^2``. Exactly with whole matrices M, which costs H^3 a row and layer, or
approximately with their diagonals alone, at the cost of a backward pass.

Reference: Miani et al., *Laplacian Autoencoders for Learning Stochastic Representations*, NeurIPS 2022.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.weights.vectors import WeightVector

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Identity)
"""Activations whose derivative is a diagonal matrix."""
LAYERS = (nn.Linear, nn.Flatten, *ELEMENTWISE)


def plain_layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network in order, where all of them are linear, activations or nothing; else none.

    Example:
        >>> len(plain_layers(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 1)))))
        3
    """
    parts = [network] if not isinstance(network, nn.Sequential) else [*network]
    nested = [plain_layers(part) if isinstance(part, nn.Sequential) else [part] for part in parts]
    found = [layer for layers in nested for layer in layers]
    known = all(isinstance(layer, LAYERS) for layer in found) and all(nested)
    return found if known else []


def layerwise_diagonal(
    layers: Sequence[nn.Module], rows: Float[Tensor, "B D"], information: Float[Tensor, "B P"], exact: bool = True
) -> WeightVector:
    """The curvature of each weight, summed over the rows.

    Args:
        layers: of the network, see :func:`plain_layers`.
        rows: what goes in.
        information: F, diagonal, about what comes out.
        exact: whether whole matrices go back, or their diagonals.

    Example:
        >>> layerwise_diagonal([nn.Linear(2, 1)], torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]]))
        tensor([ 2., 18.,  2.])
    """
    with torch.no_grad():
        inputs = [rows.flatten(1)]
        for layer in layers:
            inputs.append(layer(inputs[-1]))
        back, found = information, list[Tensor]()
        for layer, before in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
            if isinstance(layer, nn.Linear):
                found = _of_linear(layer, before, _diagonal_of(back)) + found
                back = _through_linear(back, layer.weight, exact)
            elif isinstance(layer, ELEMENTWISE):
                slope = torch.func.jvp(layer, (before,), (torch.ones_like(before),))[1]
                back = back * (slope.square() if back.ndim == 2 else slope.unsqueeze(1) * slope.unsqueeze(2))
    return torch.cat([each.reshape(-1) for each in found])


def _diagonal_of(back: Tensor) -> Float[Tensor, "B H"]:
    return back if back.ndim == 2 else back.diagonal(dim1=1, dim2=2)


def _of_linear(layer: nn.Linear, before: Tensor, diagonal: Tensor) -> list[Tensor]:
    weight = diagonal.mT @ before.square()
    return [weight] if layer.bias is None else [weight, diagonal.sum(0)]


def _through_linear(back: Tensor, weight: Tensor, exact: bool) -> Tensor:
    """``W' M W``, or of a diagonal M its diagonal."""
    if not exact:
        return back @ weight.square()
    if back.ndim == 3:
        return weight.mT @ back @ weight
    scaled = back.sqrt().unsqueeze(2) * weight
    return scaled.mT @ scaled
