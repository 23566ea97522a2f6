"""Batched linear algebra for small symmetric positive definite matrices: nothing raises inside a batch."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)

LOG_SCALE_BOUND = 7.0
"""Scales given by networks stay within exp(-7) and exp(7): a network cannot overflow them."""

JITTERS = (0.0, 1e-6, 1e-4, 1e-2, 1.0)
"""The ladder, relative to the mean diagonal of each matrix."""


def can_sync(tensor: Tensor) -> bool:
    """Whether control flow may depend on values: on a GPU that waits for it, and a compiled graph cannot.

    Where it is False the same is computed for all data, and chosen with ``torch.where``.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def cholesky(
    matrix: Float[Tensor, "*B D D"],
) -> tuple[Float[Tensor, "*B D D"], Bool[Tensor, "*B"]]:
    """Lower Cholesky factor of each matrix, and whether it needed no jitter.

    A matrix that fails is tried again with ``jitter * mean(diag)`` added, one rung of the ladder after another; one
    that fails on every rung (not finite, say) gets the identity. The other matrices of the batch are not touched.

    Example:
        >>> import torch
        >>> factor, ok = cholesky(torch.stack([4 * torch.eye(2), -torch.eye(2)]))
        >>> factor[0].diagonal().tolist(), ok.tolist()
        ([2.0, 2.0], [True, False])
    """
    factor, failure = torch.linalg.cholesky_ex(matrix)
    ok = (failure == 0) & factor.isfinite().all(-1).all(-1)
    if not (can_sync(ok) and bool(ok.all())):
        factor = _climb(matrix, factor, ok)
    return factor, ok


def _climb(matrix: Tensor, factor: Tensor, ok: Tensor) -> Tensor:
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    scale = matrix.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    done = ok
    for jitter in JITTERS[1:]:
        candidate, failure = torch.linalg.cholesky_ex(matrix + jitter * scale * eye)
        fine = (failure == 0) & candidate.isfinite().all(-1).all(-1) & ~done
        factor = torch.where(fine[..., None, None], candidate, factor)
        done = done | fine
    return torch.where(done[..., None, None], factor, eye)


def solve_spd(factor: Float[Tensor, "*B D D"], vector: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """``(L L')^-1 v`` from the lower factor ``L``."""
    return torch.cholesky_solve(vector.unsqueeze(-1), factor).squeeze(-1)


class _Triangular(torch.autograd.Function):
    """X in ``L X = R`` or ``L'X = R``. By hand: of one column torch's derivative takes three times as long."""

    generate_vmap_rule = True

    @staticmethod
    def forward(factor: Tensor, right: Tensor, transposed: bool) -> Tensor:
        return torch.linalg.solve_triangular(factor.mT if transposed else factor, right, upper=transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.transposed = inputs[2]
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def jvp(ctx: Any, dfactor: Tensor, dright: Tensor, _: None) -> Tensor:
        factor, found = ctx.saved_tensors
        dfactor = dfactor.tril()
        return solve_lower(factor, dright - (dfactor.mT if ctx.transposed else dfactor) @ found, ctx.transposed)

    @staticmethod
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        factor, found = ctx.saved_tensors
        back = solve_lower(factor, adjoint, not ctx.transposed)
        left, right = (found, back) if ctx.transposed else (back, found)
        outer = left * right.mT if found.shape[-1] == 1 else left @ right.mT
        return -outer.tril(), back, None


def solve_lower(
    factor: Float[Tensor, "*B D D"], right: Float[Tensor, "*B D K"], transposed: bool = False
) -> Float[Tensor, "*B D K"]:
    """``L^-1 R``, or ``L'^-1 R``, from the lower factor ``L``.

    Example:
        >>> import torch
        >>> solve_lower(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0], [3.0]]))
        tensor([[1.],
                [2.]])
    """
    if torch.compiler.is_compiling():  # a forward mode by hand would break the graph
        return _Triangular.forward(factor, right, transposed)
    return _Triangular.apply(factor, right, transposed)  # pyright: ignore[reportReturnType]


def half_log_det(factor: Float[Tensor, "*B D D"]) -> Float[Tensor, "*B"]:
    """``1/2 log det(L L')`` from the lower factor ``L``."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class LeastSquares(NamedTuple):
    """``|x - b - W h|^2 / v = square - 2 slope'h + h' gram h``, for every h."""

    square: Float[Tensor, " B"]
    slope: Float[Tensor, "B H"]
    gram: Float[Tensor, "H H"]


class _LeastSquares(torch.autograd.Function):
    """By hand, as W is large: one product for its gradient where autograd takes three and adds them up."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        offset = x - bias
        square, slope = torch.linalg.vector_norm(offset, dim=-1).square(), offset @ weight
        return square / variance, slope / variance, _gram(weight) / variance, offset

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[3])
        ctx.set_materialize_grads(False)  # zeros of the size of x
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, *adjoints: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, variance, *found, offset = ctx.saved_tensors
        square, slope, gram = found
        dsquare, dslope, dgram = (
            torch.zeros_like(one) if adjoint is None else adjoint
            for one, adjoint in zip(found, adjoints[:3], strict=True)
        )
        if torch.is_grad_enabled():  # a second derivative goes through it
            offset = x - bias
        dsquare, dslope = dsquare / variance, dslope / variance
        dgram = (dgram + dgram.mT) / variance
        with torch.autocast(weight.device.type, enabled=False):
            dx = 2 * dsquare.unsqueeze(-1) * offset + dslope @ weight.mT if ctx.needs_input_grad[0] else None
            dweight = (offset.mT @ dslope).addmm_(weight, dgram)
            dbias = None
            if ctx.needs_input_grad[2]:
                dbias = (dsquare @ offset).addmv(weight, dslope.sum(0), beta=-2, alpha=-1)
        dvariance = None
        if ctx.needs_input_grad[3]:
            dvariance = -(dsquare @ square + _inner(dslope, slope) + 0.5 * _inner(dgram, gram))
        return dx, dweight, dbias, dvariance


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return one.flatten() @ other.flatten()


def _gram(weight: Tensor) -> Tensor:
    """``W'W``, of its four quarters one only as the transpose of another."""
    half = weight.shape[-1] // 2
    left, right = weight[:, :half], weight[:, half:]
    top = left.mT @ weight
    return torch.cat([top, torch.cat([top[:, half:].mT, right.mT @ right], 1)])


def least_squares(
    x: Float[Tensor, "B P"], weight: Float[Tensor, "P H"], bias: Float[Tensor, " P"], variance: Float[Tensor, ""]
) -> LeastSquares:
    """The coefficients of ``|x - b - W h|^2 / v`` in h.

    Example:
        >>> weight, variance = torch.tensor([[1.0], [2.0]]), torch.tensor(2.0)
        >>> found = least_squares(torch.tensor([[3.0, 1.0]]), weight, torch.zeros(2), variance)
        >>> [part.squeeze().item() for part in found]
        [5.0, 2.5, 2.5]
    """
    return LeastSquares(*_LeastSquares.apply(x, weight, bias, variance)[:3])  # pyright: ignore[reportArgumentType, reportOptionalSubscript]


def regression(x: Float[Tensor, "N I"], y: Float[Tensor, "N O"]) -> Float[Tensor, "O I"]:
    """The smallest A that minimizes ``sum_n |y_n - A x_n|^2``, also where columns of x are constant or copies.

    By singular values, on the CPU: what torch takes by default there (``gelsy`` of 2.13) has now and then given another
    answer where columns are 0, and no driver on a GPU allows for such columns.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
        >>> torch.allclose(regression(x, 2 * x[:, :1]), torch.tensor([[2.0, 0.0]]), atol=1e-5)
        True
    """
    return torch.linalg.lstsq(x.cpu(), y.cpu(), driver="gelsd").solution.mT.to(x)


def standard_normal_log_prob(x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    """``log N(x; 0, I)`` in nats, summed over the last dimension."""
    return -0.5 * (x.square().sum(-1) + x.shape[-1] * LOG_2PI)


def soft_bound(log_scale: Float[Tensor, "*B D"], bound: float = LOG_SCALE_BOUND) -> Float[Tensor, "*B D"]:
    """``bound * tanh(log_scale / bound)``: close to the identity near 0."""
    return bound * torch.tanh(log_scale / bound)


def soft_unbound(log_scale: Float[Tensor, "*B D"], bound: float = LOG_SCALE_BOUND) -> Float[Tensor, "*B D"]:
    """The inverse of :func:`soft_bound`; what is beyond the bound, or within 1e-6 of it, comes as near as that."""
    return bound * torch.atanh((log_scale / bound).clamp(-1 + 1e-6, 1 - 1e-6))
