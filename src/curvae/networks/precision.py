"""Calling a network: one in half precision in its own, or in that of what it is given, where derivatives are taken."""

import sys
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

LOW = (torch.bfloat16, torch.float16)


def low_precision(network: nn.Module) -> torch.dtype | None:
    """The half precision that a network's first parameter has; None where it has another or no parameters."""
    first = next(network.parameters(), None)
    return first.dtype if first is not None and first.dtype in LOW else None


def run_network(network: nn.Module, rows: Tensor, *others: Tensor, precise: bool = False) -> Any:
    """``network(rows, *others)``; one in half precision is given rows of its own, and its outputs are in theirs.

    Args:
        network: any module.
        rows: (N, ...).
        others: given as they are.
        precise: as derivatives need it. Half precision is computed in that of ``rows``, from its rounded weights;
            compiled parts run as they were written; and buffers are copied, so that a later call in training mode,
            which changes them, does not change the gradient.

    Example:
        >>> layer = torch.nn.Linear(3, 2).bfloat16()
        >>> run_network(layer, torch.ones(5, 3)).dtype
        torch.float32
    """
    own = low_precision(network)
    compiled = precise and "torch._dynamo" in sys.modules and not torch.compiler.is_compiling()
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        if precise:
            return _precisely(network, own, rows, *others)
        if own is None or rows.dtype == own:
            return network(rows, *others)
        return tree_map(lambda one: _cast(one, (own,), rows.dtype), network(rows.to(own), *others))


def _precisely(network: nn.Module, own: torch.dtype | None, rows: Tensor, *others: Tensor) -> Any:
    """The same function of the same weights, whatever the network casts on the way."""
    if isinstance(network, torch.jit.ScriptModule):
        network = nn.Sequential(network)  # functional_call takes a scripted network as a part alone
    values = {}
    if torch.is_grad_enabled():
        values = {name: value.clone() for name, value in network.named_buffers()}
    if own is None or rows.dtype == own:
        return torch.func.functional_call(network, values, (rows, *others)) if values else network(rows, *others)
    for name, value in chain(network.named_parameters(), network.named_buffers()):
        if value.dtype in LOW:
            values[name] = value.to(rows.dtype)
    with _Casts(rows.dtype):
        return torch.func.functional_call(network, values, (rows, *others))


class _Casts(TorchFunctionMode):
    """Casts to half precision are to ``dtype`` instead."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.bfloat16, Tensor.half):
            return args[0].to(self.dtype)
        args, kwargs = tree_map(lambda one: _cast(one, LOW, self.dtype), (args, kwargs or {}))
        return func(*args, **kwargs)


def _cast(value: Any, low: tuple[torch.dtype, ...], dtype: torch.dtype) -> Any:
    """A tensor or a dtype that is low, as ``dtype``; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype in low else value
    return dtype if isinstance(value, torch.dtype) and value in low else value
