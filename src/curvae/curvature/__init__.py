"""The curvature engine: gradient and precision of log p(x, z) at z, exact, by the cheapest route that fits."""

from jaxtyping import Float
from torch import Tensor

from curvae.curvature.conjugate_gradient import ConjugateGradient
from curvae.curvature.generic import Generic
from curvae.curvature.gradient import Gradient
from curvae.curvature.gram import Gram
from curvae.curvature.last import last_step
from curvae.curvature.layerwise import Layerwise
from curvae.curvature.levenberg_marquardt import LevenbergMarquardt
from curvae.curvature.majorized import Majorized
from curvae.curvature.route import Local, Point, Product, Route, Routed
from curvae.curvature.search import (
    Backtracking,
    Mode,
    PaperSchedule,
    Seen,
    Status,
    StepRule,
    Trace,
    Tried,
    follow,
    moved,
    newton,
    not_ok,
)
from curvae.curvature.shared import Bound, Information, Shared, Typical
from curvae.curvature.solvers import Newton, Solver
from curvae.model import LatentVariableModel, require_continuous
from curvae.typing import Batch

ROUTES: tuple[type[Route], ...] = (Gram, Layerwise, Generic)
"""Cheapest first."""


def route_for(
    model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"], route: type[Route] | None = None
) -> Route:
    """The cheapest route that is exact for this decoder, likelihood and batch; or the one forced.

    Raises:
        ValueError: the forced route does not fit, or the latents are discrete.
    """
    require_continuous(model, "curvature")
    if route is not None and not route.fits(model, batch):
        raise ValueError(
            f"{route.__name__} route: expects {FITS[route]}; got decoder {type(model.decoder).__name__} with "
            f"{type(model.likelihood).__name__}. Leave route=None to have one chosen."
        )
    chosen = route or next(candidate for candidate in ROUTES if candidate.fits(model, batch))
    return chosen.at(model, batch, z)


FITS = {
    Gram: "a chain ending in a Linear layer that widens (or of ReLU layers as large), constant information and no mask",
    Layerwise: "a Sequential chain of Linear and elementwise layers",
    Generic: "any decoder",
}


def local(model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"], route: type[Route] | None = None) -> Local:
    """Log p(x, z), its gradient and its precision ``Lam = (J'R)(J'R)' + prior.precision(z)`` at z.

    For a piecewise linear decoder whose output is a Gaussian mean or a natural parameter of an exponential family, Lam
    is the exact Hessian of ``-log p(x, z)`` almost everywhere; otherwise it is the Gauss-Newton matrix.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight); torch.nn.init.zeros_(decoder.bias)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> near = local(model, Batch(torch.ones(1, 2), torch.tensor([-1])), torch.zeros(1, 1))
        >>> near.grad.item(), near.precision.item()   # J'(x - 0), J'J + 1
        (2.0, 3.0)
    """
    with model.evaluating():
        return route_for(model, batch, z, route).local(z)


__all__ = [
    "Backtracking",
    "Bound",
    "ConjugateGradient",
    "Generic",
    "Gradient",
    "Gram",
    "Information",
    "Layerwise",
    "LevenbergMarquardt",
    "Local",
    "Majorized",
    "Mode",
    "Newton",
    "PaperSchedule",
    "Point",
    "Product",
    "Route",
    "Routed",
    "Seen",
    "Shared",
    "Solver",
    "Status",
    "StepRule",
    "Trace",
    "Tried",
    "Typical",
    "follow",
    "last_step",
    "local",
    "moved",
    "newton",
    "not_ok",
    "route_for",
]
