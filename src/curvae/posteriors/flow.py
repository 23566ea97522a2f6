"""Posteriors that are the image of another one under a flow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.flows import Flow, InvertibleFlow
from curvae.posteriors.drawn import DrawnPosterior
from curvae.posteriors.posterior import DensityPosterior, Draws


class Pushed(DrawnPosterior):
    """``z = f(z_0; c)``, ``z_0 ~ q_0``: ``log q(z) = log q_0(z_0) - log |det df/dz_0|`` for its own draws."""

    start: DensityPosterior
    context: Float[Tensor, "B C"]
    flow: Flow

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Those of q_0 as ``start.*``, and the context."""
        return {**{f"start.{name}": value for name, value in self.start.tensors.items()}, "context": self.context}

    @property
    def free(self) -> tuple[str, ...]:
        return (*(f"start.{name}" for name in self.start.free), "context")

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Pushed":
        start = self.start.with_tensors({name: tensors[f"start.{name}"] for name in self.start.tensors})
        return replace(self, start=start, context=tensors["context"])  # pyright: ignore[reportArgumentType]

    def count(self, n: int) -> int:
        return self.start.count(n)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """The image of the center of q_0."""
        return self.flow(self.start.center.unsqueeze(0), self.context).z.squeeze(0)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        begin = self.start.draw(n, generator)
        end = self.flow(begin.z, self.context)
        return begin._replace(z=end.z, log_q=begin.log_q - end.log_det)


@dataclass(frozen=True, eq=False)
class FlowPosterior(Pushed):
    """The image of a posterior under a flow without an inverse: it weighs its own draws alone.

    Args:
        start: q_0.
        context: what the flow takes of each datum.
        flow: f.

    Example:
        >>> from curvae.flows import Planar
        >>> from curvae.posteriors import DiagonalGaussian
        >>> flow = Planar(size=2, steps=4)
        >>> q = FlowPosterior(DiagonalGaussian(*torch.zeros(2, 3, 2)), torch.randn(3, flow.context), flow)
        >>> q.draw(5).log_q.shape, q.covariance.shape
        (torch.Size([5, 3]), torch.Size([3, 2, 2]))
    """

    start: DensityPosterior
    context: Float[Tensor, "B C"]
    flow: Flow


@dataclass(frozen=True, eq=False)
class InvertibleFlowPosterior(Pushed, DensityPosterior):
    """The image of a posterior under a flow with an inverse: ``log q(z) = log q_0(f^-1(z)) + log |det df^-1/dz|``.

    Args:
        start: q_0.
        context: what the flow takes of each datum.
        flow: f.

    Example:
        >>> from curvae.flows import Radial
        >>> from curvae.posteriors import DiagonalGaussian
        >>> flow = Radial(size=2, steps=4)
        >>> q = InvertibleFlowPosterior(DiagonalGaussian(*torch.zeros(2, 3, 2)), torch.randn(3, flow.context), flow)
        >>> draws = q.draw(5)
        >>> bool(torch.allclose(q.log_prob(draws.z), draws.log_q, atol=1e-4))
        True
    """

    start: DensityPosterior
    context: Float[Tensor, "B C"]
    flow: InvertibleFlow

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        begin = self.flow.inverse(z, self.context)
        return self.start.log_prob(begin.z) + begin.log_det


def pushed(start: DensityPosterior, flow: Flow, context: Float[Tensor, "B C"]) -> Pushed:
    """The image of ``start`` under the flow; with a density at any z where the flow has an inverse."""
    if isinstance(flow, InvertibleFlow):
        return InvertibleFlowPosterior(start, context, flow)
    return FlowPosterior(start, context, flow)
