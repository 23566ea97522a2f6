"""Calling the compiled library: tensors as addresses, and items shared out among threads."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
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


def plain(tensor: Tensor) -> bool:
    """Whether there is memory of the CPU behind it, which C may read."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
    )


def vector_bytes() -> int:
    """The length of the vectors that the library was compiled for."""
    return ctypes.c_int.in_dll(library(), "vector_bytes").value  # pyright: ignore[reportArgumentType]


def call(name: str, dtype: torch.dtype, *arguments: Argument) -> bool:
    """Call the library's ``name`` for this dtype, without the interpreter's lock; whether all went well."""
    function = getattr(library(), f"{name}_{'float' if dtype == torch.float32 else 'double'}", None)
    return function is not None and function(*map(_argument, arguments)) == 0


@lru_cache(64)
def numbers(dtype: torch.dtype, *values: float) -> Tensor:
    """Settings and sizes as C reads them: one tensor for all calls with the same."""
    return torch.tensor(values, dtype=dtype, device="cpu")


def _argument(value: Argument) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, list):
        return (ctypes.c_void_p * len(value))(*(tensor.data_ptr() for tensor in value))
    return None if value is None else ctypes.c_ssize_t(value)


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
