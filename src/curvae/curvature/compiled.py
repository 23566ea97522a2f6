"""Newton's search by compiled code, where all that it needs is known: the same steps, without a call between them.

``search.c`` takes the steps of :class:`~curvae.curvature.solvers.Newton` with the rule
:class:`~curvae.curvature.search.Backtracking` on the Gram route of a ReLU chain under a standard normal prior. A
network of 256 units spends more time on calls into torch than on products.
"""

from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature import layers, native
from curvae.curvature.bfgs import CAUTION
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
    known = Known.of(route, z, rule)
    if known is None:
        return None
    end, seen = z.detach().contiguous().clone(), z.new_empty(2, steps, len(z))
    values = [z.new_empty(len(z), len(weight)) for weight in known.weights]
    limits = known.limits(rule, tolerance, CAUTION)
    if not known.call("search", len(z), limits, len(z), steps, cycle, end, values, *seen):
        return None
    if not end.is_inference():
        known.ended, known.values = (end, end._version), values
    return end, [Seen(log_joint, grad_norm) for log_joint, grad_norm in zip(*seen, strict=True)]


class Known:
    """What every call for one route begins with, alive while C reads it, and where the last search ended."""

    def __init__(self, route: Gram, linears: list[nn.Linear]):
        self.linear = [linear.weight for linear in linears], [_bias(linear) for linear in linears]
        self.weights, self.biases = ([one.detach().contiguous() for one in part] for part in self.linear)
        self.latent = self.weights[0].shape[1]
        quadratic = (route.gram, route.level - 0.5 * LOG_2PI * self.latent, route.origin, route.pitch)
        self.quadratic = [one.detach().contiguous() for one in quadratic]
        self.widths = native.numbers(torch.int64, self.latent, *map(len, self.weights))
        self.ended: tuple[Tensor, int] | None = None
        self.values: list[Tensor] = []

    @classmethod
    def of(cls, route: Route, z: Tensor, rule: StepRule) -> "Known | None":
        """None where the code does not know one of them."""
        if type(route) is not Gram or type(rule) is not Backtracking or not native.plain(z) or not native.available():
            return None
        if route not in _KNOWN:
            _KNOWN[route] = cls._of(route)
        known = _KNOWN[route]
        return None if known is None or known.quadratic[0].dtype != z.dtype else known

    @classmethod
    def _of(cls, route: Gram) -> "Known | None":
        linears = [layer for layer in route.hidden if isinstance(layer, nn.Linear)]
        fitting = layers.is_relu_chain(route.hidden) and 0 < len(linears) <= native.LAYERS
        if not fitting or type(route.model.prior) is not StandardNormal:
            return None
        tensors = [tensor for linear in linears for tensor in (linear.weight, _bias(linear))]
        tensors, kind = [*tensors, route.gram, route.level, route.origin, route.pitch], route.gram.dtype
        alike = all(tensor.dtype == kind and native.plain(tensor) for tensor in tensors)
        alike = alike and kind in (torch.float32, torch.float64)
        return cls(route, linears) if alike else None

    def layers(self, z: Float[Tensor, "B D"]) -> list[Tensor]:
        """What the layers give at z; known where a search has just ended there, and z is as it left it."""
        if self.ended and self.ended[0] is z and self.ended[1] == z._version:
            return self.values
        values = [z.detach()]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            values.append(torch.nn.functional.linear(values[-1], weight, bias).relu_())
        return values[1:]

    def limits(self, rule: StepRule, *others: float) -> Tensor:
        """The rule's settings and others, as C reads them."""
        assert isinstance(rule, Backtracking)
        return native.numbers(self.quadratic[0].dtype, rule.shortest, rule.worth, rule.sufficient, *others)

    def call(self, name: str, items: int, *rest: native.Argument) -> bool:
        """One call into C for all items; whether it went well."""
        given = (len(self.weights), self.widths, self.weights, self.biases, *self.quadratic)
        kind = self.quadratic[0].dtype
        return native.split(items, lambda _, first, last: native.call(name, kind, *given, first, last, *rest))


_KNOWN: WeakKeyDictionary[Route, Known | None] = WeakKeyDictionary()


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
