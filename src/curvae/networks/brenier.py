"""Gradients of strongly convex functions: injective maps, with a way back."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from curvae import memory
from curvae.argument_checks import check_least

LEAST = 0.1
"""The smallest slope of a map in any direction, by default."""
TOP = 0.03
"""Of each weight w at first: g is nearly linear."""
STEPS, HALVINGS = 100, 20
"""Of the search for the way back."""


class BrenierMap(nn.Module):
    r"""``g = grad f`` with f strongly convex, by an input-convex network; g is a bijection of R^K.

    ``f(z) = a/2 |z|^2 + s'z + w'h_L``, ``h_1 = softplus(A_1 z + b_1)^2``, ``h_l = softplus(W_l h_(l-1) + A_l z +
    b_l)``, where W_l and w are positive (softplus of what is learned), and ``a >= least``. So the Jacobian of g is
    symmetric and at least ``a I``: ``<g(x) - g(y), x - y> >= a |x - y|^2``. It is smooth, as softplus is. g is computed
    in closed form, one pass there and one back, so a decoder of such maps has derivatives like any other. The square
    gives g units that rise like ReLUs; with steps alone, which softplus has as its slope, it hardly learns.

    Reference: Brenier, *Polar Factorization and Monotone Rearrangement of Vector-Valued Functions*, 1991; the networks
    after Amos, Xu and Kolter, *Input Convex Neural Networks*, ICML 2017.

    Args:
        size: K.
        hidden: widths of the layers of f, one or more.
        least: the smallest slope in any direction, positive.

    Raises:
        ValueError: no layers, a size below 1, a slope that is not positive; there is no memory for the weights.

    Example:
        >>> g = BrenierMap(3, [16, 16]).double()
        >>> z = torch.randn(5, 3, dtype=torch.float64)
        >>> bool((torch.linalg.eigvalsh(g.jacobian(z)) > 0.1).all())
        True
        >>> bool((g.inverse(g(z)) - z).abs().max() < 1e-10)
        True
    """

    def __init__(self, size: int, hidden: Sequence[int], least: float = LEAST):
        super().__init__()
        check_least("BrenierMap", 1, size=size, layers=len(hidden), hidden=min(hidden, default=1))
        if not (least > 0 and math.isfinite(least)):
            raise ValueError(f"BrenierMap: least must be a positive number; got {least}.")
        memory.require_memory(sum(before * after for before, after in pairwise([size, *hidden])), "BrenierMap")
        self.least = least
        self.slope = nn.Parameter(_before_softplus(torch.tensor(1 - least if least < 1 else 1e-3)))
        self.shift = nn.Parameter(torch.zeros(size))
        self.inward = nn.ModuleList(nn.Linear(size, width) for width in hidden)
        self.between = nn.ParameterList(_before_softplus(_spread(after, before)) for before, after in pairwise(hidden))
        self.last = nn.Parameter(_before_softplus(torch.full((hidden[-1],), TOP)))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """What goes into each unit is N(0, 1), at 0 and from there to standard normal z."""
        h = self.shift.new_zeros(0)
        for k, layer in enumerate(self.layers):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
            nn.init.normal_(layer.bias)
            height = softplus(layer.bias)
            if k:
                layer.bias.sub_(softplus(self.between[k - 1]) @ h)
            h = height if k else height.square()

    @property
    def layers(self) -> list[nn.Linear]:
        """A_l and b_l."""
        return [each for each in self.inward if isinstance(each, nn.Linear)]

    def forward(self, z: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
        """``g(z)``."""
        between = [softplus(weight) for weight in self.between]
        first, *others = self._layers(z, between)
        gates = [2 * softplus(first) * torch.sigmoid(first), *map(torch.sigmoid, others)]
        out = (self.least + softplus(self.slope)) * z + self.shift
        back = softplus(self.last) * gates[-1]
        for k, layer in reversed([*enumerate(self.layers)]):
            out = out + back @ layer.weight
            if k:
                back = (back @ between[k - 1]) * gates[k - 1]
        return out

    def potential(self, z: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
        """``f(z)``, of which g is the gradient."""
        square = 0.5 * (self.least + softplus(self.slope)) * z.square().sum(-1)
        found = self._layers(z, [softplus(weight) for weight in self.between])
        last = softplus(found[-1]) if len(found) > 1 else softplus(found[0]).square()
        return square + z @ self.shift + last @ softplus(self.last)

    def _layers(self, z: Tensor, between: list[Tensor]) -> list[Tensor]:
        """What goes into each softplus."""
        first, *others = self.layers
        found = [first(z)]
        h = softplus(found[0]).square()
        for layer, weight in zip(others, between, strict=True):
            found.append(layer(z) + h @ weight.mT)
            h = softplus(found[-1])
        return found

    def jacobian(self, z: Float[Tensor, "B K"]) -> Float[Tensor, "B K K"]:
        """``dg/dz``, the Hessian of f: symmetric, positive definite."""
        axes = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        push = torch.func.vmap(lambda v: torch.func.jvp(self.forward, (z,), (v.expand_as(z),))[1], out_dims=2)
        return push(axes)

    @torch.no_grad()
    def inverse(self, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """The z of ``g(z) = y`` by Newton's method, exact to rounding; a row where that is not reached is NaN."""
        return invert(self, y)


def invert(g: BrenierMap, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """``argmin f(z) - y'z`` by Newton's method, which is the z of ``g(z) = y``; a row that is not reached is NaN.

    Each step is halved until the residual is smaller. As the Jacobian of g is at least ``least I`` everywhere, the
    residual has no other minimum than 0: the search arrives from anywhere, in the end quadratically. It ends where
    rounding leaves no residual to shrink.
    """
    eps, scale = torch.finfo(y.dtype).eps, 1 + y.norm(dim=-1, keepdim=True)
    z = torch.zeros_like(y)
    left = y - g(z)
    for _ in range(STEPS):
        if bool((left.norm(dim=-1, keepdim=True) <= eps * scale).all()):
            break
        z, left, moved = _newton_step(g, y, z, left)
        if not bool((moved & (left.norm(dim=-1, keepdim=True) > eps * scale)).any()):
            break
    return torch.where(left.norm(dim=-1, keepdim=True) < math.sqrt(eps) * scale, z, torch.nan)


def _newton_step(g: BrenierMap, y: Tensor, z: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row after the longest of the steps 1, 1/2, 1/4 ... by which its residual shrinks, as it was after none."""
    step = torch.linalg.solve(g.jacobian(z), left)
    length = torch.ones_like(y[:, :1])
    for _ in range(HALVINGS):
        remains = y - g(z + length * step)
        better = remains.norm(dim=-1, keepdim=True) <= (1 - 1e-4 * length) * left.norm(dim=-1, keepdim=True)
        if bool(better.all()):
            break
        length = torch.where(better, length, 0.5 * length)
    return torch.where(better, z + length * step, z), torch.where(better, remains, left), better


def _spread(after: int, before: int) -> Tensor:
    """Positive weights of a layer, that sum to 1 or so in each row."""
    return (0.5 * torch.randn(after, before)).exp() / before


def _before_softplus(value: Tensor) -> Tensor:
    """``log(e^v - 1)``, v positive."""
    return value + torch.log(-torch.expm1(-value))
