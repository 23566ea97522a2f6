"""A decoder that sees the last of several layers of latents."""

from jaxtyping import Float
from torch import Tensor, nn


class LastBlock(nn.Module):
    """``network(z_L)``, z_L the last ``size`` latents; it goes with :class:`curvae.priors.Layered`.

    Args:
        size: of the last layer.
        network: from it, (N, size), to the likelihood's parameters.

    Example:
        >>> import torch
        >>> LastBlock(2, torch.nn.Linear(2, 10))(torch.zeros(5, 3 + 2)).shape
        torch.Size([5, 10])
    """

    def __init__(self, size: int, network: nn.Module):
        super().__init__()
        self.size = size
        self.network = network

    def forward(self, z: Float[Tensor, "N D"]) -> Tensor:
        return self.network(z[:, -self.size :])
