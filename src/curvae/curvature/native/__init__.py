"""The library's own C code, and how it is called; its callers compute the same with torch where it cannot be had.

The idea is in ``library``: which library is loaded, and from where. ``compiler`` makes it from the C sources in this
folder, ``private_files`` keeps it where nobody else can write, ``calls`` passes tensors to it.
"""

from curvae.curvature.native.calls import LAYERS, Argument, call, in_plain_memory, numbers, split, threads, vector_bytes
from curvae.curvature.native.library import available, kernel_in_use

__all__ = [
    "LAYERS",
    "Argument",
    "available",
    "call",
    "in_plain_memory",
    "kernel_in_use",
    "numbers",
    "split",
    "threads",
    "vector_bytes",
]
