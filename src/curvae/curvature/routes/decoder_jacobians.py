"""The derivatives of a decoder along vectors, by one of the ways that torch has.

``eta = decode(z)``, whose rows do not depend on one another, has for each of them a Jacobian J (P, D). Ways differ in
how directions are taken and in the kernels that run; ``differentiable`` says which one a decoder needs.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvae.curvature.routes.elementary_normalizations import Formulas

Map = Callable[[Tensor], Tensor]


class Kernels(Enum):
    """What runs inside of a decoder."""

    DEFAULT = 0
    MATH = 1
    """Attention and normalizations by their formulas: fused kernels and fast paths have not all derivatives."""
    PLAIN = 2
    """Nothing of oneDNN and cuDNN besides, whose recurrent layers have none."""


class Taking(Enum):
    """How directions are taken."""

    FORWARD = 0
    """Several at once, in forward mode."""
    TWICE = 1
    """Several at once, by a reverse pass of the reverse pass."""
    LOOP = 2
    """The same one after the other, without ``torch.func``."""
    ROWS = 3
    """Rows of J alone, one after the other: no products J v, and no gradient flows through J."""


class DerivativeMethod(NamedTuple):
    """How the derivatives of a decoder are found."""

    taking: Taking
    kernels: Kernels


WAYS = (
    DerivativeMethod(Taking.FORWARD, Kernels.DEFAULT),
    DerivativeMethod(Taking.FORWARD, Kernels.MATH),
    DerivativeMethod(Taking.TWICE, Kernels.MATH),
    DerivativeMethod(Taking.FORWARD, Kernels.PLAIN),
    DerivativeMethod(Taking.TWICE, Kernels.PLAIN),
    DerivativeMethod(Taking.LOOP, Kernels.MATH),
    DerivativeMethod(Taking.LOOP, Kernels.PLAIN),
    DerivativeMethod(Taking.ROWS, Kernels.MATH),
)
"""The fastest first."""


@contextmanager
def running(kernels: Kernels) -> Iterator[None]:
    """These kernels meanwhile."""
    if kernels is Kernels.DEFAULT:
        yield
        return
    mha = torch.backends.mha
    with ExitStack() as after:
        after.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
        mha.set_fastpath_enabled(False)
        after.enter_context(sdpa_kernel(SDPBackend.MATH))
        after.enter_context(Formulas())
        for library in (torch.backends.mkldnn, torch.backends.cudnn) if kernels is Kernels.PLAIN else ():
            after.callback(setattr, library, "enabled", library.enabled)
            setattr(library, "enabled", False)  # noqa: B010
        yield


@dataclass(frozen=True)
class Decoding:
    """``z -> eta`` of some data, and the way to its derivatives."""

    function: Map
    way: DerivativeMethod

    def __call__(self, z: Tensor) -> Tensor:
        with running(self.way.kernels):
            return self.function(z)

    @property
    def batched(self) -> bool:
        """Whether several directions are taken at once."""
        return self.way.taking in (Taking.FORWARD, Taking.TWICE)


def vector_products(decode: Decoding, z: Float[Tensor, "B *D"]) -> "Batched | Looped":
    """``eta`` at z, where the decoder is run once, and its products there: ``pull``, u -> J'u, and ``push``, v -> J v.

    ``push`` is the reverse pass of ``pull``, which is linear. Both are differentiable where gradients are on.

    Example:
        >>> near = vector_products(Decoding(torch.sin, WAYS[0]), torch.zeros(1, 2))
        >>> near.push(torch.tensor([[3.0, 4.0]])).tolist()   # J = 1
        [[3.0, 4.0]]
    """
    return (Batched if decode.batched else Looped)(decode, z)


def jvp(decode: Decoding, z: Float[Tensor, "B *D"], v: Float[Tensor, "B *D"]) -> Tensor:
    """``J v``, in forward mode where torch has it."""
    if decode.way.taking is Taking.FORWARD:
        return torch.func.jvp(decode, (z,), (v,))[1]
    return vector_products(decode, z).push(v)


def jacobian(
    decode: Decoding, z: Float[Tensor, "B D"], reverse: bool = False, at_once: int | None = None
) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B D P"]]:
    """Eta and J', by D products with its columns, or by P with its rows.

    Args:
        decode: the decoder.
        z: the points.
        reverse: by rows.
        at_once: directions taken together where they can be; all of them if not given.

    Example:
        >>> decode = Decoding(lambda z: torch.stack([z[:, 0] ** 2, z.sum(1)], 1), WAYS[0])
        >>> jacobian(decode, torch.tensor([[3.0, 1.0]]))[1].tolist()
        [[[6.0, 1.0], [0.0, 1.0]]]
    """
    if decode.way.taking is Taking.FORWARD and not reverse:
        return decode(z), each(decode, lambda v: jvp(decode, z, v), _units(z), 1, at_once)
    near = vector_products(decode, z)
    if reverse or decode.way.taking is Taking.ROWS:
        return near.eta, each(decode, near.pull, _units(near.eta), 2, at_once)
    _ = near.transposed
    return near.eta, each(decode, near.push, _units(z), 1, at_once)


def each(decode: Decoding, product: Map, vectors: Tensor, dim: int = 0, at_once: int | None = None) -> Tensor:
    """A product with each of several vectors of each example, (S, B, ...), the results stacked along ``dim``."""
    if decode.batched:
        return torch.func.vmap(product, out_dims=dim, chunk_size=at_once)(vectors)
    return torch.stack([product(one) for one in vectors], dim)


def _units(like: Float[Tensor, "B N"]) -> Float[Tensor, "N B N"]:
    """Each unit vector, for every example."""
    eye = torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
    return eye.unsqueeze(1).expand(-1, *like.shape)


class Batched:
    """By ``torch.func``, for vmap too."""

    def __init__(self, decode: Decoding, z: Tensor):
        self.eta, self._pull = torch.func.vjp(decode, z)[:2]

    def pull(self, u: Tensor) -> Tensor:
        return self._pull(u)[0]

    def push(self, v: Tensor) -> Tensor:
        return self.transposed(v)[0]

    @cached_property
    def transposed(self) -> Callable[[Tensor], tuple[Tensor]]:
        """What ``push`` is made of; to be built outside of vmap."""
        return torch.func.vjp(self.pull, torch.zeros_like(self.eta))[1]


class Looped:
    """By autograd, for what ``torch.func`` does not take."""

    def __init__(self, decode: Decoding, z: Tensor):
        with torch.inference_mode(False), torch.enable_grad():
            z = z.clone() if z.is_inference() else z
            self._z = z if z.requires_grad else z.detach().requires_grad_()
            self._eta = decode(self._z)
        self.eta = self._eta if torch.is_grad_enabled() else self._eta.detach()

    def pull(self, u: Tensor) -> Tensor:
        return _grad(self._eta, self._z, u, torch.is_grad_enabled())

    def push(self, v: Tensor) -> Tensor:
        return _grad(*self.transposed, v, torch.is_grad_enabled())

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """``J'u`` and the u that it is linear in."""
        with torch.inference_mode(False):
            u = torch.zeros_like(self._eta, requires_grad=True)
        return _grad(self._eta, self._z, u, True), u


def _grad(output: Tensor, at: Tensor, cotangent: Tensor, differentiable: bool) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        cotangent = cotangent.clone() if cotangent.is_inference() else cotangent
        options = {"create_graph": differentiable, "retain_graph": True, "materialize_grads": True}
        return torch.autograd.grad(output, at, cotangent, **options)[0]
