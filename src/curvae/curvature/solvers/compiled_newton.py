"""Newton's search and its last, differentiated step by compiled code: the same steps, without a call between them.

A network of 256 units spends more time on calls into torch than on products. Each of these gives None where the code
does not know the decoder, the prior or the step rule (see ``compiled_problem``), or where a precision has no factor
without jitter.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from curvae.curvature import native
from curvae.curvature.linearization import Linearization
from curvae.curvature.native import kernel
from curvae.curvature.routes.compiled_problem import CompiledProblem
from curvae.curvature.routes.gram import Gram
from curvae.curvature.solvers.bfgs import CAUTION
from curvae.curvature.solvers.line_search import Backtracking, StepRule
from curvae.curvature.solvers.mode_search import Mode, Record

FAILED = (
    "Laplace: the compiled backward pass could not run: out of memory, or CURVAE_KERNEL has changed since the forward "
    "pass. Leave it as it was, or set CURVAE_KERNEL=0 for both."
)


def compiled_search(
    near: Linearization, rule: StepRule, steps: int, cycle: int, tolerance: float
) -> tuple[Gram, list[Record]] | None:
    """Where up to ``steps`` steps lead, the factor made anew every ``cycle`` of them, and what was seen before each."""
    problem, z = _problem(near, rule), near.z
    if problem is None or not isinstance(near, Gram):
        return None
    end, seen = z.detach().contiguous().clone(), z.new_empty(2, steps, len(z))
    values = [z.new_empty(len(z), len(weight)) for weight in problem.weights]
    limits = _limits(rule, z, tolerance, CAUTION)
    if not problem.call("search", len(z), limits, len(z), steps, cycle, end, values, *seen):
        return None
    return Gram(near.frame, end, activations=values), [
        Record(log_joint, grad_norm) for log_joint, grad_norm in zip(*seen, strict=True)
    ]


@torch.no_grad()
def compiled_last_step(near: Linearization, rule: StepRule, differentiated: bool) -> Mode | None:
    """The last step, and the precision that it ends in."""
    problem, z = _problem(near, rule), near.z
    if problem is None or not isinstance(near, Gram):
        return None
    given = (*near.frame.quadratic[1:], *problem.linear[0], *problem.linear[1])
    differentiated = differentiated and any(tensor.requires_grad for tensor in given)
    values, start = near.activations or problem.layers(z), z.detach().contiguous()
    masks = [torch.empty_like(value, dtype=torch.bool) for value in values]
    starts = torch.empty(len(z) + 1, dtype=torch.int64, device="cpu")
    if not native.call("survey", z.dtype, len(values), problem.widths, values, len(z), masks, starts):
        return None
    kept = kernel.room(int(starts[-1]), problem.weights[0]) if differentiated else None
    precision, factor = (z.new_empty(len(z), problem.latent, problem.latent) for _ in range(2))
    step, mean, pulled = torch.empty_like(start), torch.empty_like(start), list(map(torch.empty_like, values))
    seen, (left, length) = z.new_empty(2, 2, len(z)), z.new_empty(2, len(z))
    outputs = (masks, kept, starts, precision, factor, step, mean, pulled, *seen, left, length)
    if not problem.call("last", len(z), _limits(rule, z), len(z), start, values, *outputs):
        return None
    if differentiated:
        taken = (start, step, problem.quadratic[0], kept, starts, *values, *masks, *pulled, *problem.weights)
        with torch.enable_grad():
            mean, factor = _LastStep.apply(taken, mean, factor, *given)  # pyright: ignore[reportGeneralTypeIssues]
    ok = torch.ones_like(length, dtype=torch.bool)
    return Mode(mean, precision, factor, [Record(*one) for one in zip(*seen, strict=True)], left, length == 0, ok)


def _problem(near: Linearization, rule: StepRule) -> CompiledProblem | None:
    if not (isinstance(near, Gram) and type(rule) is Backtracking and native.in_plain_memory(near.z)):
        return None
    problem = near.frame.compiled
    return problem if problem is not None and problem.reads(near.z) else None


def _limits(rule: StepRule, z: Tensor, *others: float) -> Tensor:
    """The rule's settings and others, as C reads them."""
    assert isinstance(rule, Backtracking)
    return native.numbers(z.dtype, rule.shortest, rule.worth, rule.sufficient, *others)


class _LastStep(torch.autograd.Function):
    """``mean`` and ``factor`` as functions of the last layer's slope c and matrix G and the linear layers before it.

    With ``v = Lam^-1 dmean`` the mean's derivative is that of ``v'(grad - Lam step)``, v and step held fixed, and
    ``grad = M's``, ``s = c - G h``: the tangents ``t_l = K_l W_{l-1} t_{l-1}`` from ``t_0 = v`` meet the slopes pulled
    back to the layers, ``dc = t_L``, ``dG = -h t_L'``, and h is differentiated as in any network.
    """

    @staticmethod
    def forward(
        ctx: Any, taken: tuple[Tensor, ...], mean: Tensor, factor: Tensor, *given: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.mark_dirty(mean, factor)
        ctx.save_for_backward(factor, *taken)
        return mean, factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dmean: Tensor, dfactor: Tensor) -> tuple[Tensor | None, ...]:
        factor, start, step, gram, *kept = ctx.saved_tensors
        depth = (len(kept) - 2) // 4
        values, masks, pulled, weights = (kept[2 + part * depth :][:depth] for part in range(4))
        dgrad, adjoint = torch.empty_like(step), torch.empty_like(factor)
        known = (factor, step, dmean.contiguous(), dfactor.contiguous(), dgrad, adjoint)
        if not native.call("last_backward", gram.dtype, step.shape[1], 0, len(step), *known):
            raise RuntimeError(FAILED)
        found = kernel.precision_backward(weights, masks, gram, tuple(kept[:2]), adjoint)
        dweights, dgram = found or kernel.dense_backward(weights, masks, gram, adjoint)
        with torch.autocast(step.device.type, enabled=False):
            tangents, dbiases = [dgrad], []
            for weight, value in zip(weights, values, strict=True):
                tangents.append(torch.ops.aten.threshold_backward(tangents[-1] @ weight.mT, value, 0))
            dgram.addmm_(values[-1].mT, tangents[-1], alpha=-1)
            back = -tangents[-1] @ gram
            for layer in reversed(range(depth)):
                back = torch.ops.aten.threshold_backward(back, values[layer], 0)
                below = torch.cat([tangents[layer], values[layer - 1] if layer else start])
                dweights[layer].addmm_(torch.cat([pulled[layer], back]).mT, below)
                dbiases.append(back.sum(0))
                back = back @ weights[layer] if layer else back
        return None, None, None, tangents[-1], dgram, *dweights, *reversed(dbiases)
