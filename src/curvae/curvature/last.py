"""The last step to the mode: a Newton step, differentiated, and the precision that it ends in."""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.curvature import compiled_last
from curvae.curvature.route import Route
from curvae.curvature.search import Mode, Seen, StepRule


def last_step(route: Route, z: Float[Tensor, "B D"], t: int, rule: StepRule) -> Mode:
    """The t-th step, from z, as far as the rule allows; ``seen`` is what was seen at z and at the end.

    The value of the mean is that of the accepted step, its gradient that of the full one: at a fixed point that is the
    exact gradient of the mode, ``Lam^-1 (grad - Lam step)'`` with the step held fixed. Where Lam is constant within a
    linear piece, it is that at z: one Jacobian less, and exact but for units that switch on the way.
    """
    found = compiled_last.last(route, z, rule, torch.is_grad_enabled())
    if found is not None:
        return found
    stays = route.locally_constant
    with torch.set_grad_enabled(torch.is_grad_enabled() and stays):
        point = route.point(z)
        here = route.local_at(point)
        precision = here.precision
        factor, ok = linalg.cholesky(precision)
    fixed, grad = factor.detach(), here.grad.detach()
    step = linalg.solve_spd(fixed, grad)
    with torch.no_grad():
        there, length = rule.advance(t, route, point.detach(), grad, step).taken(point.detach())
        slope = route.grad_at(there)
    mean = z + length.unsqueeze(-1) * step
    if torch.is_grad_enabled():
        residual = here.grad - (precision @ step.unsqueeze(-1)).squeeze(-1) if stays else route.residual(z, step)
        mean = mean + linalg.solve_spd(fixed, residual - residual.detach())
    if not stays:
        precision = route.local(mean).precision
        factor, ok = linalg.cholesky(precision)
    left = 0.5 * torch.linalg.vecdot(slope, linalg.solve_spd(factor.detach(), slope))
    seen = [Seen.of(here.log_joint, grad), Seen.of(there.log_joint, slope)]
    return Mode(mean, precision, factor, seen, left, length == 0, ok)
