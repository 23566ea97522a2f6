"""Planar flow: z is pushed along one direction by a smooth step across a plane."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from curvae.argument_checks import check_least
from curvae.flows.flow import Flow, Transformed, required

SHIFT = math.log(math.e - 1)
"""``softplus(SHIFT) = 1``."""


class Planar(Flow):
    """``z <- z + u^ tanh(w'z + b)``, K times, with u, w and b of each step and example from the encoder.

    ``log |det| = log(1 + (1 - tanh^2) w'u^)``. A step is invertible where ``w'u^ > -1``, which
    ``u^ = u + (m(w'u) - w'u) w / |w|^2`` with ``m(a) = softplus(a + log(e - 1)) - 1`` ensures for every u. Its inverse
    has no closed form: log-densities are those of its own draws.

    Reference: Rezende and Mohamed, *Variational Inference with Normalizing Flows*, ICML 2015.

    Differences: the published ``m(a) = softplus(a) - 1`` is not 0 at 0, so that small parameters throw z far
    (``u^`` grows as ``1 / |w|``); shifted so that it is, small parameters are nearly the identity.

    Args:
        size: number of dimensions D.
        steps: their number K.

    Raises:
        ValueError: fewer than 1 step.

    Example:
        >>> flow = Planar(size=2, steps=4)
        >>> moved = flow(torch.randn(5, 3, 2), torch.randn(3, flow.context))
        >>> flow.context, moved.z.shape, moved.log_det.shape
        (20, torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

    def __init__(self, size: int, steps: int = 10):
        super().__init__()
        check_least("Planar", 1, steps=steps)
        self.size = size
        self.steps = steps
        self.context = steps * (2 * size + 1)
        self.cheap = "forward"

    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for step in required(self, context).unflatten(-1, (self.steps, -1)).unbind(1):
            z, stretch = _step(z, *step.split([self.size, self.size, 1], dim=-1))
            log_det = log_det + stretch
        return Transformed(z, log_det)

    @torch.no_grad()
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """``u = 0``; w and b stay, so that u has a slope."""
        for part in (weight, bias):
            part.unflatten(0, (self.steps, -1))[:, : self.size] = 0
        return 0.0


def _step(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> Transformed:
    """With ``w'u^ = slope - 1``, the determinant is ``tanh^2 + (1 - tanh^2) slope``: positive, nothing cancels."""
    product = (u * w).sum(-1, keepdim=True)
    slope = softplus(product + SHIFT)
    norm = w.square().sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
    u = u + (slope - 1 - product) * w / norm
    bend = torch.tanh((z * w).sum(-1, keepdim=True) + b)
    square = bend.square()
    return Transformed(z + u * bend, (square + (1 - square) * slope).log().squeeze(-1))
