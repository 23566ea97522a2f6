"""Newton's search by compiled code, where all that it needs is known: the same steps, without a call between them.

``search.c`` takes the steps of :class:`~curvae.curvature.solvers.Newton` with the rule
:class:`~curvae.curvature.search.Backtracking` on the Gram route of a ReLU chain under a standard normal prior. A
network of 256 units spends more time on calls into torch than on products.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import layers, native
from curvae.curvature.gram import Gram
from curvae.curvature.route import Point, Route
from curvae.curvature.search import Backtracking, End, Seen, StepRule
from curvae.linalg import LOG_2PI
from curvae.priors import StandardNormal

Found = tuple[Float[Tensor, "B D"], list[Seen]]


def search(
    route: Route, z: Float[Tensor, "B D"], steps: int, cycle: int, rule: StepRule, tolerance: float
) -> Found | None:
    """Where up to ``steps`` steps lead, the factor made anew every ``cycle`` of them, and what was seen before each.

    None where it is not compiled for this, or where a precision has no factor without jitter.
    """
    known = _Known.of(route, z, rule)
    if known is None:
        return None
    end, seen = z.detach().contiguous().clone(), z.new_empty(2, steps, len(z))
    if not known.call("search", len(z), len(z), steps, cycle, tolerance, end, *seen):
        return None
    return end, [Seen(log_joint, grad_norm) for log_joint, grad_norm in zip(*seen, strict=True)]


def step(
    route: Route, here: Point, grad: Float[Tensor, "B D"], step: Float[Tensor, "B D"], rule: StepRule
) -> End | None:
    """Where one step leads by the rule; None where it is not compiled for this."""
    known = _Known.of(route, here.z, rule)
    if known is None or grad.dtype != here.z.dtype or step.dtype != here.z.dtype:
        return None
    given = [one.detach().contiguous() for one in (here.z, step)]
    end = End(here.log_joint.detach().clone(), grad.detach().contiguous().clone(), torch.empty_like(here.log_joint))
    return end if known.call("step", len(grad), *given, *end) else None


class _Known(NamedTuple):
    """A route and a rule that the code knows: what every call begins with, alive while C reads it."""

    weights: list[Tensor]
    biases: list[Tensor]
    shared: list[Tensor]
    """G, log p(x, h0) up to z'z / 2, h0 and the slope there."""
    rule: Backtracking
    latent: int

    @classmethod
    def of(cls, route: Route, z: Tensor, rule: StepRule) -> "_Known | None":
        """None where the code does not know one."""
        if type(route) is not Gram or type(rule) is not Backtracking or type(route.model.prior) is not StandardNormal:
            return None
        linears = [layer for layer in route.hidden if isinstance(layer, nn.Linear)]
        if not layers.is_relu_chain(route.hidden) or not 0 < len(linears) <= native.LAYERS:
            return None
        weights, biases = [linear.weight for linear in linears], [_bias(linear) for linear in linears]
        shared = [route.gram, route.level - 0.5 * LOG_2PI * z.shape[-1], route.origin, route.pitch]
        alike = all(tensor.dtype == z.dtype and native.plain(tensor) for tensor in (z, *weights, *biases, *shared))
        if not alike or z.dtype not in (torch.float32, torch.float64) or not native.available():
            return None
        weights, biases, shared = ([one.detach().contiguous() for one in part] for part in (weights, biases, shared))
        return cls(weights, biases, shared, rule, z.shape[-1])

    def call(self, name: str, items: int, *rest: Tensor | float) -> bool:
        """One call into C for all items; whether it went well."""
        library = native.library()
        single = self.weights[0].dtype == torch.float32
        real = ctypes.c_float if single else ctypes.c_double
        function = getattr(library, f"{name}_{'float' if single else 'double'}")
        widths = (self.latent, *(len(weight) for weight in self.weights))
        lists = native.pointers(self.weights), native.pointers(self.biases)
        rule = (real * 3)(self.rule.shortest, self.rule.worth, self.rule.sufficient)

        def of(value: Tensor | float) -> Any:
            if isinstance(value, Tensor):
                return ctypes.c_void_p(value.data_ptr())
            return ctypes.c_ssize_t(value) if isinstance(value, int) else real(value)

        given = (of(len(self.weights)), (ctypes.c_ssize_t * len(widths))(*widths), *lists, *map(of, self.shared))
        after = tuple(map(of, rest))
        return native.split(items, lambda _, first, last: function(*given, of(first), of(last), rule, *after) == 0)


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
