"""Flows one after the other."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from curvae.flows.flow import InvertibleFlow, Transformed


class Composed(InvertibleFlow):
    """``f_K(... f_1(z))``, flows of all examples (``context = 0``); log-determinants add up.

    Args:
        flows: f_1 ... f_K, of as many dimensions each.

    Raises:
        ValueError: none, flows of several sizes, or one that takes a context.

    Example:
        >>> import torch
        >>> from curvae.flows import Autoregressive
        >>> flow = Composed([Autoregressive(3, 0, 1, [8]), Autoregressive(3, 0, 1, [8])])
        >>> flow(torch.zeros(5, 4, 3)).log_det.shape
        torch.Size([5, 4])
    """

    def __init__(self, flows: Sequence[InvertibleFlow]):
        super().__init__()
        if len({flow.size for flow in flows}) != 1 or any(flow.context for flow in flows):
            raise ValueError("Composed: expected flows of one size and without context.")
        self.size = flows[0].size
        self.context = 0
        self.cheap = "both" if all(flow.cheap == "both" for flow in flows) else "forward"
        self.flows = nn.ModuleList(flows)

    def forward(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        log_det = z.new_zeros(z.shape[:-1])
        for flow in self.flows:
            z, stretch = flow(z)
            log_det = log_det + stretch
        return Transformed(z, log_det)

    def inverse(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        log_det = z.new_zeros(z.shape[:-1])
        for flow in reversed(self.flows):
            z, stretch = flow.inverse(z)  # pyright: ignore[reportCallIssue]
            log_det = log_det + stretch
        return Transformed(z, log_det)

    def start_at_identity(self, weight: Tensor, bias: Tensor) -> float:
        """Each of them; the logs of what they multiply by add up."""
        return sum(flow.start_at_identity(weight, bias) for flow in self.flows)  # pyright: ignore[reportCallIssue]
