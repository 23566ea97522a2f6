"""Calling the compiled library: tensors as addresses, and items shared out among threads."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from curvae.curvature.native.library import library

LAYERS = 16
"""Layers that the code is made for."""
SHARE = 8
"""Items that are worth a thread."""
Argument = Tensor | list[Tensor] | int | None
"""A tensor is passed as its address, a list of them as an array of addresses, a number as a size."""
_PROBLEM = "size ints lists lists reals reals reals reals size size"
_FOUR = "reals reals reals reals"
SIGNATURES = {
    "precision": "size ints lists masks reals reals size size reals reals ints",
    "precision_backward": "size ints lists masks reals size size reals reals ints lists reals",
    "search": f"{_PROBLEM} reals size size size reals lists reals reals",
    "survey": "size ints lists size masks ints",
    "last": f"{_PROBLEM} reals size reals lists masks reals ints {_FOUR} lists {_FOUR}",
    "last_backward": f"size size size reals reals {_FOUR}",
}
"""What each function takes: numbers of its type and 64-bit ints, or None, and lists of numbers or of bools."""


class Address:
    """Tensors of one type in C: what ``argtypes`` needs."""

    def __init__(self, dtype: torch.dtype, many: bool = False):
        self.dtype, self.many = dtype, many

    def from_param(self, value: Any) -> Any:
        """The address, or an array of them, of contiguous tensors of this type.

        Raises:
            TypeError: they are not; ctypes makes an ArgumentError of it.
        """
        if self.many:
            return (ctypes.c_void_p * len(value))(*map(self._address, value))
        return None if value is None else ctypes.c_void_p(self._address(value))

    def _address(self, tensor: Tensor) -> int:
        if tensor.dtype != self.dtype or not tensor.is_contiguous() or tensor.device.type != "cpu":
            raise TypeError(f"expected contiguous {self.dtype} on the CPU, got {tensor.dtype} on {tensor.device}")
        return tensor.data_ptr()


def in_plain_memory(tensor: Tensor) -> bool:
    """Whether there is memory of the CPU behind it, which C may read."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
    )


def vector_bytes(dtype: torch.dtype) -> int:
    """The length of the vectors that the library was compiled for."""
    return ctypes.c_int.in_dll(library(dtype), "curvae_vector_bytes").value  # pyright: ignore[reportArgumentType]


def call(name: str, dtype: torch.dtype, *arguments: Argument) -> bool:
    """Call the library's ``name`` for this dtype, without the interpreter's lock; whether all went well."""
    code = library(dtype)
    return code is not None and _function(code, name, dtype)(*arguments) == 0


@cache
def _function(code: ctypes.CDLL, name: str, dtype: torch.dtype) -> Callable[..., int]:
    function = getattr(code, f"curvae_{name}")
    kinds = {
        "size": ctypes.c_ssize_t,
        "ints": Address(torch.int64),
        "reals": Address(dtype),
        "lists": Address(dtype, many=True),
        "masks": Address(torch.bool, many=True),
    }
    function.argtypes, function.restype = [kinds[kind] for kind in SIGNATURES[name].split()], ctypes.c_int
    return function


@lru_cache(64)
def numbers(dtype: torch.dtype, *values: float) -> Tensor:
    """Settings and sizes as C reads them: one tensor for all calls with the same."""
    return torch.tensor(values, dtype=dtype, device="cpu")


def threads(items: int) -> int:
    """How many parts so many items are worth."""
    return max(1, min(torch.get_num_threads(), items // SHARE))


def split(items: int, work: Callable[[int, int, int], bool]) -> bool:
    """Run ``work(part, begin, end)`` over the items, on as many threads as torch may use; whether all went well."""
    parts = threads(items)
    if parts == 1:
        return work(0, 0, items)
    ends = [items * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        return all(pool.map(work, range(parts), ends[:-1], ends[1:]))
