"""Transformed laws: the image of another one under a flow."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import GaussianPosterior
from curvae.distributions.moments import DrawnPosterior
from curvae.distributions.posterior import DensityPosterior, DerivedPosterior, Draws, Posterior
from curvae.flows import Flow, InvertibleFlow, Transformed


class PushforwardPosterior(DerivedPosterior, DrawnPosterior):
    """``z = f(z_0; c)``, ``z_0 ~ q_0``: ``log q(z) = log q_0(z_0) - log |det df/dz_0|`` for its own draws."""

    names = ("context",)
    start: DensityPosterior
    flow: Flow
    context: Float[Tensor, "B C"] | None

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """The image of the center of q_0."""
        return self.flow(self.start.center.unsqueeze(0), self.context).z.squeeze(0)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        begin = self.start.draw(n, generator)
        end = self.flow(begin.z, self.context)
        return begin._replace(z=end.z, log_q=begin.log_q - end.log_det)


@dataclass(frozen=True, eq=False)
class TransformedPosterior(PushforwardPosterior):
    """The image of a law under a flow without an inverse: it weighs its own draws alone.

    Args:
        start: q_0.
        flow: f.
        context: what the flow takes of each example; None for a flow that takes nothing.

    Example:
        >>> from curvae.flows import Planar
        >>> from curvae.posteriors import DiagonalGaussian
        >>> flow = Planar(size=2, steps=4)
        >>> q = TransformedPosterior(DiagonalGaussian(*torch.zeros(2, 3, 2)), flow, torch.randn(3, flow.context))
        >>> q.draw(5).log_q.shape, q.covariance.shape
        (torch.Size([5, 3]), torch.Size([3, 2, 2]))
    """

    start: DensityPosterior
    flow: Flow
    context: Float[Tensor, "B C"] | None = None


@dataclass(frozen=True, eq=False)
class TransformedDensity(PushforwardPosterior, DensityPosterior):
    """The image of a law under a flow with an inverse: ``log q(z) = log q_0(f^-1(z)) + log |det df^-1/dz|``.

    Args: as those of :class:`TransformedPosterior`.

    Example:
        >>> from curvae.flows import Radial
        >>> from curvae.posteriors import DiagonalGaussian
        >>> flow = Radial(size=2, steps=4)
        >>> q = TransformedDensity(DiagonalGaussian(*torch.zeros(2, 3, 2)), flow, torch.randn(3, flow.context))
        >>> draws = q.draw(5)
        >>> bool(torch.allclose(q.log_prob(draws.z), draws.log_q, atol=1e-4))
        True
    """

    start: DensityPosterior
    flow: InvertibleFlow
    context: Float[Tensor, "B C"] | None = None

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        begin = self.flow.inverse(z, self.context)
        return self.start.log_prob(begin.z) + begin.log_det

    def push(self, e: Float[Tensor, "S B D"]) -> Transformed:
        """``T(e)``, which takes standard normal noise to draws, and ``log |det dT/de|``; see :func:`transport`."""
        begin = transport(self.start).push(e)
        end = self.flow(begin.z, self.context)
        return Transformed(end.z, begin.log_det + end.log_det)

    def pull(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        """``T^-1(z)``."""
        return transport(self.start).pull(self.flow.inverse(z, self.context).z)


def transformed(
    start: DensityPosterior, flow: Flow, context: Float[Tensor, "B C"] | None = None
) -> PushforwardPosterior:
    """The image of ``start`` under the flow; with a density at any z where the flow has an inverse."""
    if isinstance(flow, InvertibleFlow):
        return TransformedDensity(start, flow, context)
    return TransformedPosterior(start, flow, context)


def transport(posterior: Posterior) -> GaussianPosterior | TransformedDensity:
    """A posterior that is the image of standard normal noise, both ways: it has ``push`` and ``pull``.

    Raises:
        ValueError: neither a Gaussian, nor an invertible flow from one.

    Example:
        >>> from curvae.posteriors import DiagonalGaussian
        >>> there = transport(DiagonalGaussian(torch.full((4, 2), 3.0), torch.zeros(4, 2)))
        >>> there.push(torch.zeros(1, 4, 2)).z[0, 0].tolist(), there.pull(torch.zeros(1, 4, 2))[0, 0].tolist()
        ([3.0, 3.0], [-3.0, -3.0])
    """
    if isinstance(posterior, TransformedDensity):
        transport(posterior.start)
    elif not isinstance(posterior, GaussianPosterior):
        raise ValueError(
            f"transport: expects a Gaussian posterior, or an invertible flow from one; got {type(posterior).__name__}."
        )
    return posterior
