"""Any flow of zuko as one of ours."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.lazy import Flow as LazyFlow

from curvae.flows.flow import InvertibleFlow, Transformed


class ZukoFlow(InvertibleFlow):
    """The map of a flow of zuko in the direction of its density, from data to noise; its inverse draws.

    Args:
        flow: without a context: ``zuko.flows.NSF(3)``, ``MAF``, ``NICE``, ...
        size: number of dimensions D, as the flow has them.

    Example:
        >>> import zuko
        >>> flow = ZukoFlow(zuko.flows.NSF(3, transforms=2, hidden_features=(16,)), size=3)
        >>> z = torch.randn(4, 1, 3)
        >>> bool(torch.allclose(flow.inverse(flow(z).z).z, z, atol=1e-4))
        True
    """

    def __init__(self, flow: LazyFlow, size: int):
        super().__init__()
        self.transform = flow.transform
        self.size = size
        self.context = 0
        self.cheap = "forward"

    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        return Transformed(*self.transform().call_and_ladj(z))

    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        return Transformed(*self.transform().inv.call_and_ladj(z))

    @torch.no_grad()
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """The last layer of each network says 0, and so do numbers that no network gives.

        Raises:
            ValueError: that is not the identity for this flow.
        """
        for module in list(self.transform.modules()):
            parts = dict(module.named_children())
            layers = [each for each in parts.get("hyper", nn.Module()).modules() if isinstance(each, nn.Linear)]
            for each in (*layers[-1:], parts.get("phi", nn.Module())):
                for parameter in each.parameters():
                    parameter.zero_()
        z = torch.randn(64, 1, self.size).to(next(self.transform.parameters()))
        if not torch.allclose(self.forward(z).z, z, atol=1e-4):
            raise ValueError("ZukoFlow: expects a flow that is the identity where its networks say 0, as NSF and MAF.")
        return 0.0
