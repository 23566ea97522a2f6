"""Radial flow: z is drawn to, or pushed from, a point."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from curvae.argument_checks import check_least
from curvae.flows.flow import InvertibleFlow, Transformed, required


class Radial(InvertibleFlow):
    """``z <- z + beta (z - c) / (alpha + r)``, ``r = |z - c|``, K times, all parameters from the encoder.

    ``log |det| = (D - 1) log(1 + beta h) + log(1 + beta h + beta h' r)``, ``h = 1 / (alpha + r)``. A step is
    invertible where ``alpha + beta > 0``; alpha and alpha + beta are each the softplus of a free value, so that equal
    values are the identity. The inverse solves ``r^2 + (alpha + beta - r') r - alpha r' = 0``.

    Reference: Rezende and Mohamed, *Variational Inference with Normalizing Flows*, ICML 2015.

    Args:
        size: number of dimensions D.
        steps: their number K.

    Raises:
        ValueError: fewer than 1 step.

    Example:
        >>> flow = Radial(size=2, steps=4)
        >>> z, context = torch.randn(5, 3, 2, dtype=torch.float64), torch.randn(3, flow.context, dtype=torch.float64)
        >>> there = flow(z, context)
        >>> bool(torch.allclose(flow.inverse(there.z, context).z, z))
        True
    """

    def __init__(self, size: int, steps: int = 10):
        super().__init__()
        check_least("Radial", 1, steps=steps)
        self.size = size
        self.steps = steps
        self.context = steps * (size + 2)
        self.cheap = "both"

    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for center, alpha, total in self._steps(context):
            offset = z - center
            r = _length(offset)
            z = center + offset * (r + total) / (r + alpha)
            log_det = log_det + _stretch(r, alpha, total, self.size)
        return Transformed(z, log_det)

    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for center, alpha, total in reversed(self._steps(context)):
            offset = z - center
            r = _radius_before(_length(offset), alpha, total)
            z = center + offset * (r + alpha) / (r + total)
            log_det = log_det - _stretch(r, alpha, total, self.size)
        return Transformed(z, log_det)

    @torch.no_grad()
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """``beta = 0``."""
        for part in (weight, bias):
            steps = part.unflatten(0, (self.steps, -1))
            steps[:, -1] = steps[:, -2]
        return 0.0

    def _steps(self, context: Tensor | None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Center, alpha and alpha + beta of each step."""
        steps = required(self, context).unflatten(-1, (self.steps, -1)).unbind(1)
        parts = [step.split([self.size, 1, 1], -1) for step in steps]
        return [(center, softplus(alpha), softplus(total)) for center, alpha, total in parts]


def _length(offset: Tensor) -> Tensor:
    """``|offset|``, with gradient 0 at 0."""
    return offset.square().sum(-1, keepdim=True).clamp_min(torch.finfo(offset.dtype).tiny).sqrt()


def _stretch(r: Tensor, alpha: Tensor, total: Tensor, size: int) -> Tensor:
    """``1 + beta h = (r + total) / (r + alpha)``; the other factor is ``(r^2 + 2 alpha r + alpha total) h^2``."""
    around = (r + total).log() - (r + alpha).log()
    along = (r.square() + 2 * alpha * r + alpha * total).log() - 2 * (r + alpha).log()
    return ((size - 1) * around + along).squeeze(-1)


def _radius_before(r: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
    """The positive root, from the side on which nothing cancels."""
    half = r - total
    root = (half.square() + 4 * alpha * r).sqrt()
    near = half < 0
    return torch.where(near, 2 * alpha * r / torch.where(near, root - half, 1.0), 0.5 * (root + half))
