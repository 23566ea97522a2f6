"""A posterior as the image of standard normal noise, both ways: chains that move in the space of the noise need it."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from curvae.flows import Image
from curvae.posteriors.flow import InvertibleFlowPosterior
from curvae.posteriors.gaussian import GaussianPosterior
from curvae.posteriors.posterior import Posterior


class Transport(NamedTuple):
    """``z = T(e)`` with e standard normal where z is a draw of q: ``log q(z) = log N(e; 0, 1) - log |det dT/de|``."""

    push: Callable[[Float[Tensor, "S B D"]], Image]
    """e to z and ``log |det dT/de|``."""
    pull: Callable[[Float[Tensor, "S B D"]], Float[Tensor, "S B D"]]
    """z to e."""


def transport(posterior: Posterior) -> Transport:
    """That of a Gaussian, or of an invertible flow from one.

    Raises:
        ValueError: another kind of posterior.

    Example:
        >>> import torch
        >>> from curvae.posteriors import DiagonalGaussian
        >>> there = transport(DiagonalGaussian(torch.full((4, 2), 3.0), torch.zeros(4, 2)))
        >>> there.push(torch.zeros(1, 4, 2)).z[0, 0].tolist(), there.pull(torch.zeros(1, 4, 2))[0, 0].tolist()
        ([3.0, 3.0], [-3.0, -3.0])
    """
    if isinstance(posterior, GaussianPosterior):
        return Transport(
            lambda e: Image(posterior.loc + posterior.color(e), posterior.half_log_det.expand(e.shape[:-1])),
            lambda z: posterior.whiten(z - posterior.loc),
        )
    if isinstance(posterior, InvertibleFlowPosterior):
        return _flow(posterior, transport(posterior.start))
    raise ValueError(
        f"transport: expects a Gaussian posterior, or an invertible flow from one; got {type(posterior).__name__}."
    )


def _flow(posterior: InvertibleFlowPosterior, first: Transport) -> Transport:
    flow, context = posterior.flow, posterior.context

    def push(e: Tensor) -> Image:
        begin = first.push(e)
        end = flow(begin.z, context)
        return Image(end.z, begin.log_det + end.log_det)

    return Transport(push, lambda z: first.pull(flow.inverse(z, context).z))
