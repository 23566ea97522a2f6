"""The derivative of a mode by the implicit function theorem."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Solve = Callable[[Tensor], Tensor]
"""``v -> Lam^-1 v``."""


def with_gradient(
    mode: Float[Tensor, "B D"], grad: Callable[[Tensor], Float[Tensor, "B D"]], solve: Solve
) -> Float[Tensor, "B D"]:
    """The mode, with the derivative ``mode' = Lam^-1 (grad log p(x, z))'``, z held at the mode.

    ``solve`` is called in the backward pass and not before.
    """
    return mode + _Zero.apply(grad(mode), solve) if torch.is_grad_enabled() else mode


class _Zero(torch.autograd.Function):
    """The value 0, with the derivative ``Lam^-1``."""

    @staticmethod
    def forward(ctx, vector: Tensor, solve: Solve) -> Tensor:
        ctx.solve = solve
        return torch.zeros_like(vector)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.solve(cotangent), None
