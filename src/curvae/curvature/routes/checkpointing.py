"""A part of a batch that keeps nothing for its gradient: the backward pass computes it again."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from curvae.curvature.linearization import LocalExpansion
from curvae.model import LatentVariableModel

Run = Callable[[Tensor], LocalExpansion]


def recomputed(model: LatentVariableModel, run: Run, z: Float[Tensor, "B D"]) -> LocalExpansion:
    """``run(z)``, once differentiable in z and the parameters of the model, in the memory of one such part."""
    parameters = dict(model.named_parameters())
    if not torch.is_grad_enabled() or not any(one.requires_grad for one in (z, *parameters.values())):
        return run(z)
    return LocalExpansion(*_Again.apply(model, run, tuple(parameters), z, *parameters.values()))  # pyright: ignore[reportGeneralTypeIssues]


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, model: LatentVariableModel, run: Run, names: tuple[str, ...], z: Tensor, *values: Tensor):
        ctx.model, ctx.run, ctx.names = model, run, names
        ctx.save_for_backward(z, *values)
        return tuple(run(z))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        z, *values = ctx.saved_tensors

        def again(point: Tensor, *changed: Tensor) -> tuple[Tensor, ...]:
            swapped = {f"model.{name}": value for name, value in zip(ctx.names, changed, strict=True)}
            return tuple(torch.func.functional_call(_Door(ctx.model), swapped, (ctx.run, point)))

        with ctx.model.evaluating():
            given = [value.detach().requires_grad_(value.requires_grad) for value in (z, *values)]
            wanted = [value for value in given if value.requires_grad]
            with torch.enable_grad():
                found = again(*given)
            gradients = iter(torch.autograd.grad(found, wanted, adjoints, allow_unused=True))
            return None, None, None, *(next(gradients) if value.requires_grad else None for value in given)


class _Door(nn.Module):
    """Lets ``functional_call`` in."""

    def __init__(self, model: LatentVariableModel):
        super().__init__()
        self.model = model

    def forward(self, run: Run, z: Tensor) -> LocalExpansion:
        return run(z)
