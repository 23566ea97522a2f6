"""A decoder of codes, seen from the noise that a flow makes of them."""

from jaxtyping import Float
from torch import Tensor, nn

from curvae.flows import InvertibleFlow, Transformed


class FlowDecoder(nn.Module):
    """``D(f^-1(u))``: f takes codes z to noise u, and D decodes codes; under ``u ~ N(0, I)`` that is a prior of z.

    Args:
        flow: f, the same for all examples.
        network: D, from (N, D) to the likelihood's parameters.

    Example:
        >>> import torch
        >>> from curvae.flows import Whitening
        >>> decoder = FlowDecoder(Whitening(2, 0), nn.Linear(2, 10))
        >>> decoder(torch.zeros(5, 2)).shape, decoder.to_noise(torch.zeros(5, 2)).z.shape
        (torch.Size([5, 10]), torch.Size([1, 5, 2]))
    """

    def __init__(self, flow: InvertibleFlow, network: nn.Module):
        super().__init__()
        self.flow = flow
        self.network = network

    def forward(self, u: Float[Tensor, "N D"]) -> Tensor:
        return self.network(self.flow.inverse(u.unsqueeze(0)).z.squeeze(0))

    def to_noise(self, z: Float[Tensor, "N D"]) -> Transformed:
        """``f(z)`` and ``log |det df/dz|``, (1, N, D) and (1, N)."""
        return self.flow(z.unsqueeze(0))
