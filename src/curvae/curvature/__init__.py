"""The curvature engine: gradient and precision of log p(x, z) at z, exact, by the cheapest route that fits.

``linearization`` is the idea: log p(x, z) near a point, as value, gradient, precision and products. ``routes`` are its
kinds, one for each kind of decoder; ``solvers`` search for the mode; ``native`` has the same in C, for the default.
"""

from jaxtyping import Float
from torch import Tensor

from curvae.curvature.linearization import Linearization, LocalExpansion, Product, take_rows
from curvae.curvature.routes.generic import Generic
from curvae.curvature.routes.gram import Gram
from curvae.curvature.routes.layerwise import Layerwise
from curvae.curvature.routes.matrix_free import MatrixFree
from curvae.curvature.routes.shared_information import Majorizer, MeanInformation, Shared, SharedInformation
from curvae.curvature.solvers.conjugate_gradient import ConjugateGradient
from curvae.curvature.solvers.final_step import last_step
from curvae.curvature.solvers.gradient import Gradient
from curvae.curvature.solvers.levenberg_marquardt import LevenbergMarquardt
from curvae.curvature.solvers.line_search import Backtracking, PaperSchedule, StepRule, Trial
from curvae.curvature.solvers.majorized import Majorized
from curvae.curvature.solvers.mode_search import (
    Mode,
    Record,
    SearchHistory,
    Status,
    has_changed,
    not_ok,
    take_newton_steps,
)
from curvae.curvature.solvers.solver import Newton, Solver, Step
from curvae.model import LatentVariableModel, require_continuous, require_whole
from curvae.renamed import renamed
from curvae.typing import Batch

ROUTES: tuple[type[Linearization], ...] = (Gram, Layerwise, Generic)
"""Cheapest first."""


def linearize(
    model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"], route: type[Linearization] | None = None
) -> Linearization:
    """Log p(x, z) near z, by the cheapest way that is exact for this decoder, likelihood and batch; or the one forced.

    Its value, its gradient, its precision ``Lam = J'FJ + prior.precision(z)`` and products with it are evaluated when
    they are asked for; ``near.at(z)`` is the same at another point. For a piecewise linear decoder whose output is a
    Gaussian mean or a natural parameter of an exponential family, Lam is the exact Hessian of ``-log p(x, z)`` almost
    everywhere; otherwise it is the Gauss-Newton matrix. The model is to be in evaluation mode.

    Raises:
        ValueError: the forced route does not fit, the latents are discrete, or an autoregressive decoder and missing
            elements.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight); torch.nn.init.zeros_(decoder.bias)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> near = linearize(model, Batch(torch.ones(1, 2), torch.tensor([-1])), torch.zeros(1, 1))
        >>> near.grad().item(), near.local().precision.item()   # J'(x - 0), J'J + 1
        (2.0, 3.0)
    """
    require_continuous(model, "curvature")
    require_whole(model, batch.mask, "curvature")
    if route is not None and not route.fits(model, batch):
        raise ValueError(
            f"{route.__name__} route: expects {FITS[route]}; got decoder {type(model.decoder).__name__} with "
            f"{type(model.likelihood).__name__}. Leave route=None to have one chosen."
        )
    kind = route or next(candidate for candidate in ROUTES if candidate.fits(model, batch))
    return kind.of(model, batch, z)


FITS = {
    Gram: "a chain ending in a Linear layer that widens (or of ReLU layers as large), constant information and no mask",
    Layerwise: "a Sequential chain of Linear and elementwise layers",
    Generic: "any decoder",
}


def local(
    model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"], route: type[Linearization] | None = None
) -> LocalExpansion:
    """:func:`linearize` once: log p(x, z), its gradient and its precision at z, the model in evaluation mode.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight); torch.nn.init.zeros_(decoder.bias)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> near = local(model, Batch(torch.ones(1, 2), torch.tensor([-1])), torch.zeros(1, 1))
        >>> near.grad.item(), near.precision.item()
        (2.0, 3.0)
    """
    with model.evaluating():
        return linearize(model, batch, z, route).local()


__all__ = [
    "Backtracking",
    "ConjugateGradient",
    "Generic",
    "Gradient",
    "Gram",
    "Layerwise",
    "LevenbergMarquardt",
    "Linearization",
    "LocalExpansion",
    "Majorized",
    "Majorizer",
    "MatrixFree",
    "MeanInformation",
    "Mode",
    "Newton",
    "PaperSchedule",
    "Product",
    "Record",
    "SearchHistory",
    "Shared",
    "SharedInformation",
    "Solver",
    "Status",
    "Step",
    "StepRule",
    "Trial",
    "has_changed",
    "last_step",
    "linearize",
    "local",
    "not_ok",
    "take_newton_steps",
    "take_rows",
]

_BEFORE = {
    "Local": "curvae.curvature.LocalExpansion",
    "Typical": "curvae.curvature.MeanInformation",
    "follow": "curvae.curvature.take_newton_steps",
    "Bound": "curvae.curvature.Majorizer",
    "Information": "curvae.curvature.SharedInformation",
    "Seen": "curvae.curvature.Record",
    "Tried": "curvae.curvature.Trial",
    "chosen": "curvae.curvature.take_rows",
    "moved": "curvae.curvature.has_changed",
    "route_for": "curvae.curvature.linearize",
}
__getattr__ = renamed(__name__, _BEFORE)
