"""``Lam = M'GM`` of a ReLU chain and its gradient, over active units alone: a compiled kernel, and the same in torch.

With the activity masks K_l of an item, ``M_1 = K_1 W_0`` and ``M_l = K_l W_{l-1} M_{l-1}`` are the Jacobians of the
layers, and ``Lam = M_L' G M_L`` its precision. About half of the units of a layer are off: their rows and columns are
skipped, which no dense product can do, as every item has others.

Without the compiled kernel (:mod:`curvae.curvature.native`), and on another device or dtype, ``relu_precision``
computes the same with torch.
"""

import ctypes
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from curvae.curvature import native
from curvae.typing import Matrix

Weights = list[Float[Tensor, "_out _in"]]
"""W_0 (H_1, D), W_1 (H_2, H_1) ... W_{L-1} (H_L, H_{L-1})."""
Masks = list[Shaped[Tensor, "B _H"]]
"""For each layer which units are on: bool, or 0 and 1."""
Gradients = tuple[list[Tensor], Tensor]


def usable(gram: Float[Tensor, "H H"]) -> bool:
    """Whether the kernel is there and can read this tensor: on the CPU, and not within a function transform."""
    return native.plain(gram) and native.available()


def precision(weights: Weights, masks: Masks, gram: Float[Tensor, "H H"]) -> Matrix | None:
    """``Lam = M'GM`` (B, D, D) by the kernel, without autograd; None where it cannot.

    Only the upper triangle of the symmetric ``gram`` is read.
    """
    chain = _Chain.of(weights, masks, gram)
    if chain is None:
        return None
    latent = weights[0].shape[1]
    out = gram.new_empty(len(masks[0]), latent, latent)
    done = native.split(len(out), lambda part, begin, end: chain.call("precision", (begin, end, out.data_ptr())))
    return out if done else None


def precision_backward(weights: Weights, masks: Masks, gram: Float[Tensor, "H H"], adjoint: Matrix) -> Gradients | None:
    """``(dW, dG)`` by the kernel, for the symmetric adjoint A of Lam; None where it cannot.

    ``dG = sum_b M A M'``, ``dM_L = 2 K G M A``, ``dW_l = sum_b dM_{l+1} M_l'`` and ``dM_l = K W_l' dM_{l+1}``.
    """
    chain = _Chain.of(weights, masks, gram)
    if chain is None or adjoint.dtype != gram.dtype or not native.plain(adjoint):
        return None
    adjoint = adjoint.detach().contiguous()
    turned = [weight.mT.contiguous() for weight in chain.weights]
    parts = native.threads(len(masks[0]))
    grads = [gram.new_zeros(parts, *tensor.shape) for tensor in (*chain.weights, gram)]

    def work(part: int, begin: int, end: int) -> bool:
        own = [grad[part] for grad in grads]
        after = (begin, end, adjoint.data_ptr(), native.pointers(own[:-1]), own[-1].data_ptr())
        return chain.call("precision_backward", after, turned)

    if not native.split(len(masks[0]), work):
        return None
    *dweights, dgram = (grad[0] if parts == 1 else grad.sum(0) for grad in grads)
    return dweights, dgram.triu() + dgram.triu(1).mT


def relu_precision(weights: Weights, masks: Masks, gram: Float[Tensor, "H H"]) -> Matrix:
    """``Lam = M'GM`` (B, D, D), once differentiable in the weights and the symmetric ``gram``.

    The masks are constants. The gradient is that of the formula, by hand: nothing of size (B, D, H) is kept for it.

    Args:
        weights: those of the L linear layers, each followed by a ReLU.
        masks: for each of them the units that are on, (B, H_l), bool or 0 and 1.
        gram: G, symmetric, of the size of the last layer.

    Example:
        >>> import torch
        >>> weight, on = torch.tensor([[1.0, 0.0], [5.0, 5.0], [1.0, 2.0]]), torch.tensor([[True, False, True]])
        >>> relu_precision([weight], [on], torch.eye(3))
        tensor([[[2., 2.],
                 [2., 4.]]])
    """
    return Precision.apply(len(weights), gram, *masks, *weights)  # pyright: ignore[reportReturnType]


class Precision(torch.autograd.Function):
    """``relu_precision`` as a node of the graph: inputs L, G, the L masks and the L weights."""

    @staticmethod
    def forward(depth: int, gram: Tensor, *rest: Tensor) -> Tensor:
        weights, masks = list(rest[depth:]), list(rest[:depth])
        found = precision(weights, masks, gram)
        return dense_precision(weights, masks, gram) if found is None else found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.depth = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        gram, *rest = ctx.saved_tensors
        weights, masks = rest[ctx.depth :], rest[: ctx.depth]
        adjoint = 0.5 * (adjoint + adjoint.mT)
        found = precision_backward(weights, masks, gram, adjoint)
        dweights, dgram = dense_backward(weights, masks, gram, adjoint) if found is None else found
        return None, dgram, *(None for _ in masks), *dweights


def dense_precision(weights: Weights, masks: Masks, gram: Float[Tensor, "H H"]) -> Matrix:
    """``precision`` with torch: the M_l' as rows (B, D, H_l), zeros multiplied."""
    last = _rows(weights, masks)[-1]
    return last @ gram @ last.mT


def dense_backward(weights: Weights, masks: Masks, gram: Float[Tensor, "H H"], adjoint: Matrix) -> Gradients:
    """``precision_backward`` with torch."""
    rows = _rows(weights, masks)
    along = adjoint @ rows[-1]
    dgram = along.flatten(0, 1).mT @ rows[-1].flatten(0, 1)
    back = 2 * along @ gram
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

    def __init__(self, library: ctypes.CDLL, weights: Weights, masks: Masks, gram: Tensor):
        self.library = library
        self.weights = [weight.detach().contiguous() for weight in weights]
        self.masks: list[Bool[Tensor, "B _H"]] = [(mask != 0).contiguous() for mask in masks]
        self.gram = gram.detach().contiguous()
        self.widths = [weights[0].shape[1], *(len(weight) for weight in weights)]

    @classmethod
    def of(cls, weights: Weights, masks: Masks, gram: Tensor) -> "_Chain | None":
        """None where the kernel cannot do it."""
        tensors = [*weights, gram]
        if not all(map(native.plain, (*tensors, *masks))) or not 0 < len(weights) <= native.LAYERS:
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
            and gram.shape == (widths[-1], widths[-1])
            and min(widths) > 0
        )
        library = native.library() if fitting else None
        return None if library is None else cls(library, weights, masks, gram)

    def call(self, name: str, rest: tuple[Any, ...], turned: list[Tensor] | None = None) -> bool:
        """One call into C, which releases the interpreter's lock."""
        widths = (ctypes.c_ssize_t * len(self.widths))(*self.widths)
        kind = "float" if self.gram.dtype == torch.float32 else "double"
        lists = [native.pointers(part) for part in (self.weights, turned, self.masks) if part is not None]
        sizes = [ctypes.c_ssize_t(part) for part in rest[:2]]
        arrays = [
            ctypes.c_void_p(part) if isinstance(part, int) else part for part in (self.gram.data_ptr(), *rest[2:])
        ]
        depth = ctypes.c_ssize_t(len(self.weights))
        return getattr(self.library, f"{name}_{kind}")(depth, widths, *lists, arrays[0], *sizes, *arrays[1:]) == 0
