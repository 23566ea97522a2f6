"""Newton's search by compiled code, where all that it needs is known: the same steps, without a call between them.

``search.c`` takes the steps of :class:`~curvae.curvature.solvers.Newton` with the rule
:class:`~curvae.curvature.search.Backtracking` on the Gram route of a ReLU chain under a standard normal prior. A
network of 256 units spends more time on calls into torch than on products.
"""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import layers, native
from curvae.curvature.gram import Gram
from curvae.curvature.route import Route
from curvae.curvature.search import Backtracking, Seen, StepRule
from curvae.linalg import LOG_2PI
from curvae.priors import StandardNormal

Found = tuple[Float[Tensor, "B D"], list[Seen]]


def search(
    route: Route, z: Float[Tensor, "B D"], steps: int, cycle: int, rule: StepRule, tolerance: float
) -> Found | None:
    """Where up to ``steps`` steps lead, the factor made anew every ``cycle`` of them, and what was seen before each.

    None where it is not compiled for this, or where a precision has no factor without jitter.
    """
    parts = _parts(route, z, rule)
    library = native.library() if parts else None
    if parts is None or library is None:
        return None
    gram, rule, linears = parts
    weights = [linear.weight.detach().contiguous() for linear in linears]
    biases = [_bias(linear).detach().contiguous() for linear in linears]
    level = gram.level.detach() - 0.5 * LOG_2PI * z.shape[-1]
    shared = [gram.gram.detach().contiguous(), level, *(one.detach().contiguous() for one in (gram.origin, gram.pitch))]
    end = z.detach().contiguous().clone()
    seen = z.new_empty(2, steps, len(z))
    real = ctypes.c_float if z.dtype == torch.float32 else ctypes.c_double
    widths = (ctypes.c_ssize_t * (len(weights) + 1))(z.shape[-1], *(len(weight) for weight in weights))
    settings = (real * 3)(rule.shortest, rule.worth, rule.sufficient)
    call = getattr(library, "search_float" if z.dtype == torch.float32 else "search_double")

    def work(part: int, first: int, last: int) -> bool:
        counts = [ctypes.c_ssize_t(count) for count in (len(z), first, last, steps, cycle)]
        failed = call(
            ctypes.c_ssize_t(len(weights)),
            widths,
            native.pointers(weights),
            native.pointers(biases),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in shared),
            *counts,
            real(tolerance),
            settings,
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (end, seen[0], seen[1])),
        )
        return failed == 0

    if not native.split(len(z), work):
        return None
    return end, [Seen(log_joint, grad_norm) for log_joint, grad_norm in zip(*seen, strict=True)]


def _parts(route: Route, z: Tensor, rule: StepRule) -> tuple[Gram, Backtracking, list[nn.Linear]] | None:
    """What is searched, by what rule and through which layers; None where the compiled code does not know one."""
    if type(route) is not Gram or type(rule) is not Backtracking or type(route.model.prior) is not StandardNormal:
        return None
    linears = [layer for layer in route.hidden if isinstance(layer, nn.Linear)]
    if not layers.is_relu_chain(route.hidden) or not 0 < len(linears) <= native.LAYERS:
        return None
    tensors = [z, route.gram, route.level, route.origin, route.pitch]
    tensors += [tensor for linear in linears for tensor in (linear.weight, _bias(linear))]
    alike = z.dtype in (torch.float32, torch.float64) and all(tensor.dtype == z.dtype for tensor in tensors)
    return (route, rule, linears) if alike and all(map(native.plain, tensors)) else None


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
