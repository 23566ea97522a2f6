"""The leapfrog integrator: reversible, volume preserving, and without a word on what it is used for."""

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
"""``(S, B, D) -> (S, B)``, nats, each row on its own; normalized or not."""

Seen = TypeVar("Seen")
Force = Callable[[Tensor], tuple[Seen, Tensor]]
"""z to whatever else was seen there, and the slope that moves the momentum, (S, B, D)."""


def value_and_grad(target: LogDensity, z: Float[Tensor, "*S D"]) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S D"]]:
    """A log-density and its gradient, by ``torch.func``; both can be differentiated again.

    Example:
        >>> value, slope = value_and_grad(lambda z: -0.5 * z.square().sum(-1), torch.ones(1, 1, 2))
        >>> value.tolist(), slope.tolist()
        ([[-1.0]], [[[-1.0, -1.0]]])
    """
    value, pull = torch.func.vjp(target, z)[:2]
    (slope,) = pull(torch.ones_like(value))
    return value, slope


def leapfrog(
    force: Force[Seen], z: Tensor, momentum: Tensor, slope: Tensor, step: Tensor, count: int = 1
) -> tuple[Tensor, Tensor, Seen, Tensor]:
    r"""``count`` steps of Hamilton's equations for ``H = -log f(z) + 1/2 |momentum|^2``, one slope each.

    ``r' = r + e/2 grad log f(z);  z <- z + e r';  r <- r' + e/2 grad log f(z)``.

    Each line is a shear, so volume is preserved exactly; with the momentum's sign turned the same steps lead back. The
    energy is off by O(e^2). A step for each dimension is a diagonal mass matrix.

    Args:
        force: what is seen at z, and the slope there.
        z: where to begin.
        momentum: of the same shape.
        slope: that at z, known from the last step.
        step: e, broadcast against z.
        count: number of steps, 1 or more.

    Returns:
        z, momentum, what was seen at z, and the slope there.

    Example:
        >>> normal = lambda z: value_and_grad(lambda z: -0.5 * z.square().sum(-1), z)
        >>> z, momentum, e = torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.tensor(0.1)
        >>> there = leapfrog(normal, z, momentum, -z, e, 16)          # a quarter of a turn is 15.7 steps
        >>> there[0].item() > 0.99, abs(there[1].item()) < 0.1
        (True, True)
    """
    seen, now = None, slope
    for _ in range(count):
        half = momentum + 0.5 * step * now
        z = z + step * half
        seen, now = force(z)
        momentum = half + 0.5 * step * now
    return z, momentum, seen, now  # pyright: ignore[reportReturnType]


def tempered_leapfrog(
    target: LogDensity,
    z: Float[Tensor, "S B D"],
    momentum: Float[Tensor, "S B D"],
    step: Float[Tensor, "K #B #D"],
    cooling: Float[Tensor, "K #B"],
) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B D"]]:
    """K leapfrog steps, the momentum times ``cooling[k]`` after each: ``log |det| = D sum_k log cooling[k]``.

    The slope at a point serves the step that ends there and the one that begins there: K + 1 in all.
    """
    _, slope = value_and_grad(target, z)
    for k in range(len(step)):
        z, momentum, _, slope = leapfrog(lambda at: value_and_grad(target, at), z, momentum, slope, step[k])
        momentum = momentum * cooling[k].unsqueeze(-1)
    return z, momentum
