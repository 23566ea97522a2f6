"""Newton's search by compiled code, where all that it needs is known: the same steps, without a call between them.

``search.c`` takes the steps of :class:`~curvae.curvature.solvers.Newton` with the rule
:class:`~curvae.curvature.search.Backtracking` on the Gram route of a ReLU chain under a standard normal prior. A
network of 256 units spends more time on calls into torch than on products.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import layers, native
from curvae.curvature.bfgs import CAUTION
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
    limits = known.limits(tolerance, CAUTION)
    if not known.call("search", len(z), limits, len(z), steps, cycle, end, *seen):
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
    return end if known.call("step", len(grad), known.limits(), *given, *end) else None


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

    def limits(self, *others: float) -> Tensor:
        """The rule's settings and others, as C reads them."""
        return self.shared[0].new_tensor([self.rule.shortest, self.rule.worth, self.rule.sufficient, *others])

    def call(self, name: str, items: int, *rest: native.Argument) -> bool:
        """One call into C for all items; whether it went well."""
        kind, widths = self.shared[0].dtype, torch.tensor([self.latent, *map(len, self.weights)], device="cpu")
        given = (len(self.weights), widths, self.weights, self.biases, *self.shared)
        return native.split(items, lambda _, first, last: native.call(name, kind, *given, first, last, *rest))


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
