"""Autoregressive flows: each dimension is mapped by what masked networks say of those before it, and of the example."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows import MaskedAutoregressiveTransform

from curvae.argument_checks import check_least
from curvae.flows.flow import InvertibleFlow, Transformed
from curvae.flows.univariate import Univariate, gated


class Autoregressive(InvertibleFlow):
    """``z_i <- g(z_i; a_i(z_<i, c))``, K times, the order of the dimensions reversed from one step to the next.

    g is increasing, a a masked network, so ``log |det| = sum_i log g'(z_i)``. One pass of the networks maps all
    dimensions: draws are cheap, and they know their density. The way back, for the density at another z, takes
    ``passes`` of them. With D passes and :func:`gated` maps this is inverse autoregressive flow; with 2 passes it is a
    coupling flow, cheap both ways: one half of the dimensions is mapped by c, the other by c and the first half.

    Reference: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, *Improved Variational Inference with Inverse
    Autoregressive Flow*, NIPS 2016; Dinh, Sohl-Dickstein and Bengio, *Density Estimation Using Real NVP*, ICLR 2017.

    Differences: in a coupling step the half that conditions is itself mapped, by c alone, instead of copied.

    Args:
        size: number of dimensions D.
        context: number of values of each example that the networks see; 0 for one flow of all examples.
        steps: number K of maps.
        hidden: widths of each network's hidden layers.
        univariate: the family of g.
        passes: groups that the dimensions are split into; D if None.

    Raises:
        ValueError: size, steps or passes below 1, or a negative context.

    Example:
        >>> flow = Autoregressive(size=3, context=8, steps=2, hidden=[16])
        >>> moved = flow(torch.randn(5, 4, 3), torch.randn(4, 8))
        >>> moved.z.shape, moved.log_det.shape, bool((moved.log_det <= 0).all())
        (torch.Size([5, 4, 3]), torch.Size([5, 4]), True)
    """

    def __init__(
        self,
        size: int,
        context: int,
        steps: int = 2,
        hidden: Sequence[int] = (128, 128),
        univariate: Univariate | None = None,
        passes: int | None = None,
    ):
        super().__init__()
        check_least("Autoregressive", 1, size=size, steps=steps, passes=passes)
        check_least("Autoregressive", 0, context=context)
        self.size = size
        self.context = context
        self.cheap = "both" if passes is not None and passes <= 2 else "forward"
        make, shapes, self.slope = univariate or gated()
        network: dict[str, Any] = {"hidden_features": hidden, "activation": nn.ELU}
        order: list[Any] = [torch.arange(size), torch.arange(size).flip(0)]
        self.steps = nn.ModuleList(
            MaskedAutoregressiveTransform(size, context, passes, order[k % 2], None, make, shapes, **network)
            for k in range(steps)
        )

    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for step in self.steps:
            z, stretch = step(context).call_and_ladj(z)
            log_det = log_det + stretch
        return Transformed(z, log_det)

    @torch.no_grad()
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """The networks say 0."""
        for step in self.steps:
            *_, last = step.get_submodule("hyper").children()
            for each in last.parameters():
                each.zero_()
        return len(self.steps) * self.slope

    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for step in reversed(self.steps):
            transform = step(context)
            z = transform.inv(z)
            log_det = log_det - transform.call_and_ladj(z)[1]
        return Transformed(z, log_det)
