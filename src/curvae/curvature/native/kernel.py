"""``Lam = M'GM`` of a ReLU chain and its gradient, over active units alone: a compiled kernel, and the same in torch.

With the activity masks K_l of an item, ``M_1 = K_1 W_0`` and ``M_l = K_l W_{l-1} M_{l-1}`` are the Jacobians of the
layers, and ``Lam = M_L' G M_L`` its precision, with one G for all items or for each a diagonal of its own. About half
of the units of a layer are off: their rows and columns are skipped, which no dense product can do, as every item has
others.

Without the compiled kernel (:mod:`curvae.curvature.native`), and on another device or dtype, ``relu_precision``
computes the same with torch.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from curvae.curvature import native
from curvae.typing import Matrix

Weights = list[Float[Tensor, "_out _in"]]
"""W_0 (H_1, D), W_1 (H_2, H_1) ... W_{L-1} (H_L, H_{L-1})."""
Masks = list[Shaped[Tensor, "B _H"]]
"""For each layer which units are on: bool, or 0 and 1."""
GramMatrix = Float[Tensor, "*B _one H"]
"""G: symmetric (H, H), or the diagonal of each item's own, (B, 1, H)."""
Gradients = tuple[list[Tensor], Tensor]
Kept = tuple[Tensor, ...]
"""Of each item the active rows of M_2 .. M_L, where G is shared those of ``G M_L`` too, and where they begin, (B,); or
nothing."""


def usable(tensor: Tensor) -> bool:
    """Whether the kernel is there and can read this tensor: on the CPU, and not within a function transform."""
    return native.in_plain_memory(tensor) and native.available()


def precision(weights: Weights, masks: Masks, gram: GramMatrix, keep: bool = False) -> tuple[Matrix, Kept] | None:
    """``Lam = M'GM`` (B, D, D) by the kernel, without autograd, and what its gradient needs; None where it cannot.

    Without ``keep`` only the upper triangle of a symmetric ``gram`` is read.
    """
    chain = _Chain.of(weights, masks, gram)
    if chain is None:
        return None
    latent = weights[0].shape[1]
    out = gram.new_empty(len(masks[0]), latent, latent)
    kept = chain.room() if keep else ()

    def work(_part: int, begin: int, end: int) -> bool:
        return chain.call("precision", chain.shared, chain.own, begin, end, out, *(kept or (None, None)))

    return (out, kept) if native.split(len(out), work) else None


def room(rows: int, weight: Float[Tensor, "H D"]) -> Float[Tensor, "rows columns"]:
    """For so many rows of D numbers, as the kernel wants them: in whole vectors."""
    lanes = native.vector_bytes(weight.dtype) // weight.element_size()
    return weight.new_empty(rows, -(-weight.shape[1] // lanes) * lanes)


def precision_backward(
    weights: Weights, masks: Masks, gram: GramMatrix, kept: Kept, adjoint: Matrix
) -> Gradients | None:
    """``(dW, dG)`` by the kernel, for the adjoint of Lam; None where it cannot, or where nothing was kept.

    With its symmetric part A ``dG = sum_b M A M'``, ``dM_L = 2 G M A``, ``dW_l = sum_b dM_{l+1} M_l'`` and
    ``dM_l = K W_l' dM_{l+1}``; of a G of its own each item has the diagonal of its ``M A M'``.
    """
    chain = _Chain.of(weights, masks, gram) if kept else None
    if chain is None or adjoint.dtype != gram.dtype or not all(map(native.in_plain_memory, (adjoint, *kept))):
        return None
    known = [tensor.detach().contiguous() for tensor in (adjoint, *kept)]
    parts = native.threads(len(masks[0]))
    grads = [gram.new_zeros(parts, *weight.shape) for weight in chain.weights]
    grads.append(gram.new_zeros(1 if chain.shared is None else parts, *gram.shape))  # each item's own has its place

    def work(part: int, begin: int, end: int) -> bool:
        *dweights, dgram = (grad[part % len(grad)] for grad in grads)
        return chain.call("precision_backward", chain.own, begin, end, *known, dweights, dgram)

    if not native.split(len(masks[0]), work):
        return None
    *dweights, dgram = (grad[0] if len(grad) == 1 else grad.sum(0) for grad in grads)
    return dweights, dgram


def relu_precision(weights: Weights, masks: Masks, gram: GramMatrix) -> Matrix:
    """``Lam = M'GM`` (B, D, D), once differentiable in the weights and ``gram``.

    The masks are constants. The gradient is that of the formula, by hand: where one will be wanted, M_2 .. M_L and
    ``G M_L`` are kept for it over the active units, L (B, D, H) at most.

    Args:
        weights: those of the L linear layers, each followed by a ReLU.
        masks: for each of them the units that are on, (B, H_l), bool or 0 and 1.
        gram: G, symmetric, of the size of the last layer (H, H); or for each item a diagonal G of its own, (B, 1, H).

    Example:
        >>> import torch
        >>> weight, on = torch.tensor([[1.0, 0.0], [5.0, 5.0], [1.0, 2.0]]), torch.tensor([[True, False, True]])
        >>> relu_precision([weight], [on], torch.eye(3))
        tensor([[[2., 2.],
                 [2., 4.]]])
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (gram, *weights))
    return Precision.apply(keep, len(weights), gram, *masks, *weights)[0]  # pyright: ignore[reportOptionalSubscript]


class Precision(torch.autograd.Function):
    """``relu_precision`` as a node of the graph: whether to keep, L, G, the L masks and the L weights; what is kept."""

    @staticmethod
    def forward(keep: bool, depth: int, gram: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        weights, masks = list(rest[depth:]), list(rest[:depth])
        lam, kept = precision(weights, masks, gram, keep) or (dense_precision(weights, masks, gram), ())
        return lam, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.depth = inputs[1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[2:], *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        gram, *rest = ctx.saved_tensors
        masks, weights, kept = rest[: ctx.depth], rest[ctx.depth : 2 * ctx.depth], tuple(rest[2 * ctx.depth :])
        if adjoint is None:
            return (None,) * (3 + 2 * ctx.depth)
        found = precision_backward(weights, masks, gram, kept, adjoint)
        dweights, dgram = found or dense_backward(weights, masks, gram, adjoint)
        return None, None, dgram, *(None for _ in masks), *dweights


def dense_precision(weights: Weights, masks: Masks, gram: GramMatrix) -> Matrix:
    """``precision`` with torch: the M_l' as rows (B, D, H_l), zeros multiplied."""
    last = _rows(weights, masks)[-1]
    return (last * gram if gram.ndim == 3 else last @ gram) @ last.mT


def dense_backward(weights: Weights, masks: Masks, gram: GramMatrix, adjoint: Matrix) -> Gradients:
    """``precision_backward`` with torch."""
    rows = _rows(weights, masks)
    along = 0.5 * (adjoint + adjoint.mT) @ rows[-1]
    if gram.ndim == 3:
        dgram, back = (along * rows[-1]).sum(1, keepdim=True), 2 * along * gram
    else:
        dgram, back = along.flatten(0, 1).mT @ rows[-1].flatten(0, 1), 2 * along @ gram
    dweights: list[Tensor] = []
    for layer in reversed(range(len(weights))):
        back = back * masks[layer].unsqueeze(1)
        if layer:
            dweights.append(back.flatten(0, 1).mT @ rows[layer - 1].flatten(0, 1))
            back = back @ weights[layer]
    return [back.sum(0).mT, *reversed(dweights)], dgram


def _rows(weights: Weights, masks: Masks) -> list[Float[Tensor, "B D _H"]]:
    """``M_l'`` for l = 1 .. L."""
    rows = [weights[0].mT * masks[0].unsqueeze(1)]
    for weight, mask in zip(weights[1:], masks[1:], strict=True):
        rows.append((rows[-1] @ weight.mT) * mask.unsqueeze(1))
    return rows


class _Chain:
    """One call's arguments, contiguous and alive while C reads them."""

    def __init__(self, weights: Weights, masks: Masks, gram: GramMatrix):
        self.weights = [weight.detach().contiguous() for weight in weights]
        self.masks: list[Bool[Tensor, "B _H"]] = [mask.bool().contiguous() for mask in masks]
        known = gram.detach().contiguous()
        self.shared, self.own = (None, known) if gram.ndim == 3 else (known, None)
        self.dtype = gram.dtype
        self.widths = native.numbers(torch.int64, weights[0].shape[1], *map(len, weights))

    @classmethod
    def of(cls, weights: Weights, masks: Masks, gram: GramMatrix) -> "_Chain | None":
        """None where the kernel cannot do it."""
        tensors = [*weights, gram]
        if not all(map(native.in_plain_memory, (*tensors, *masks))) or not 0 < len(weights) <= native.LAYERS:
            return None
        if gram.dtype not in (torch.float32, torch.float64) or any(one.dtype != gram.dtype for one in tensors):
            return None
        widths = [weights[0].shape[1], *(len(weight) for weight in weights)]
        fitting = (
            all(
                weight.shape == (after, before)
                for weight, (before, after) in zip(weights, pairwise(widths), strict=True)
            )
            and [mask.shape for mask in masks] == [(len(masks[0]), width) for width in widths[1:]]
            and gram.shape == ((len(masks[0]), 1, widths[-1]) if gram.ndim == 3 else (widths[-1], widths[-1]))
            and min(widths) > 0
        )
        return cls(weights, masks, gram) if fitting and native.available() else None

    def room(self) -> tuple[Float[Tensor, "N columns"], Int[Tensor, " B"]]:
        """For what is kept: rows of whole vectors, and where each item's begin."""
        masks = self.masks[1:] if self.shared is None else [*self.masks[1:], self.masks[-1]]
        counts = sum((mask.sum(1) for mask in masks), torch.zeros(len(self.masks[0]), dtype=torch.int64, device="cpu"))
        ends = counts.cumsum(0)
        return room(int(counts.sum()), self.weights[0]), ends - counts

    def call(self, name: str, *rest: native.Argument) -> bool:
        """One call into C."""
        depth = len(self.weights)
        return native.call(name, self.dtype, depth, self.widths, self.weights, self.masks, *rest)
