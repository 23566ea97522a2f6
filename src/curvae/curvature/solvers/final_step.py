"""The last step to the mode: a Newton step, differentiated, and the precision that it ends in."""

import torch

from curvae import linalg
from curvae.curvature.linearization import Linearization
from curvae.curvature.solvers import compiled_newton
from curvae.curvature.solvers.line_search import StepRule
from curvae.curvature.solvers.mode_search import Mode, Record


def last_step(near: Linearization, t: int, rule: StepRule) -> Mode:
    """The t-th step, as far as the rule allows; ``seen`` is what was seen before it and at the end.

    The value of the mean is that of the accepted step, its gradient that of the full one: at a fixed point that is the
    exact gradient of the mode, ``Lam^-1 (grad - Lam step)'`` with the step held fixed. Where Lam is constant within a
    linear piece, it is that at z: one Jacobian less, and exact but for units that switch on the way.
    """
    differentiated = torch.is_grad_enabled()
    found = compiled_newton.compiled_last_step(near, rule, differentiated)
    if found is not None:
        return found
    stays = near.locally_constant
    here = near.at(near.z) if differentiated else near
    with torch.set_grad_enabled(differentiated and stays):
        local = here.local()
        precision = local.precision
        factor, ok = linalg.cholesky(precision)
    fixed, grad = factor.detach(), local.grad.detach()
    step = linalg.solve_spd(fixed, grad)
    with torch.no_grad():
        start = here.detach()
        there, length = rule.advance(t, start, grad, step).taken(start)
        end = None if stays or differentiated else there.local()
        slope = there.grad() if end is None else end.grad
    mean = near.z + length.unsqueeze(-1) * step
    if differentiated:
        residual = local.grad - (precision @ step.unsqueeze(-1)).squeeze(-1) if stays else here.residual(step)
        mean = mean + linalg.solve_spd(fixed, residual - residual.detach())
    if not stays:
        precision = (end or near.at(mean).local()).precision
        factor, ok = linalg.cholesky(precision)
    left = 0.5 * torch.linalg.vecdot(slope, linalg.solve_spd(factor.detach(), slope))
    seen = [Record.of(local.log_joint, grad), Record.of(there.log_joint, slope)]
    return Mode(mean, precision, factor, seen, left, length == 0, ok)
