"""Writing ``Bound.state`` into a system's buffers, the same on every process."""

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int
from torch import Tensor, nn

from curvae import linalg
from curvae.training.errors import RunError
from curvae.typing import HoldsBatch, Remembers, State


@torch.no_grad()
def write_state(
    system: nn.Module, state: State, index: Int[Tensor, " B"], rows: int, keep: Bool[Tensor, ""] | None = None
) -> None:
    """Give buffers their new values, by name relative to the system.

    A module that keeps a state for each training example says which of its buffers have a row for each of them
    (:class:`curvae.typing.Remembers`): there the rows of a batch are written at ``index``, and -1 writes nothing. With
    several processes such rows are gathered from all. One that keeps the batch at hand
    (:class:`curvae.typing.HoldsBatch`) gets what its own process has, of any shape. Any other value replaces its
    buffer; of several processes' that of the first.

    Args:
        system: whose buffers are written.
        state: new values.
        index: rows of the training table that the batch holds.
        rows: number of rows of the training table.
        keep: where False, on the device, nothing changes.

    Raises:
        RunError: no such buffer, or a value that does not fit it.

    Example:
        >>> module = torch.nn.Module()
        >>> module.register_buffer("table", torch.zeros(4))
        >>> module.per_example, module.remember = ("table",), print
        >>> write_state(module, {"table": torch.tensor([5.0, 6.0, 7.0])}, torch.tensor([2, 0, -1]), rows=4)
        >>> module.table
        tensor([6., 0., 5., 0.])
    """
    for name, value in state.items():
        buffer, by_example = _buffer(system, name)
        if _holds_batch(system, name):
            setattr(system.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], value.detach())
            continue
        expected = (len(index), *buffer.shape[1:]) if by_example else buffer.shape
        if value.shape != expected or (by_example and len(buffer) < rows):
            raise RunError(
                f"Bound.state[{name!r}]: expected a value of shape {tuple(expected)} for a buffer of shape "
                f"{tuple(buffer.shape)}; got {tuple(value.shape)}."
            )
        if by_example:
            everywhere, values = _gathered(index), _gathered(value.to(buffer.dtype))
            if keep is not None:
                values = torch.where(keep, values, buffer[everywhere.clamp(min=0)])
            _write_rows(buffer, everywhere, values)
        else:
            value = _first(value)
            buffer.copy_(value if keep is None else torch.where(keep, value, buffer))


def _write_rows(buffer: Tensor, index: Tensor, values: Tensor) -> None:
    """``buffer[index] = values`` but where the index is -1."""
    if linalg.can_sync(buffer):
        seen = index >= 0
        buffer[index[seen]] = values[seen]
    else:  # a row too many takes what is not wanted: choosing rows would wait for the device
        longer = torch.cat([buffer, values[:1]])
        longer[torch.where(index < 0, len(buffer), index)] = values
        buffer.copy_(longer[:-1])


def _buffer(system: nn.Module, name: str) -> tuple[Tensor, bool]:
    """The buffer of this name, and whether it has a row for each training example."""
    path, _, leaf = name.rpartition(".")
    try:
        module = system.get_submodule(path)
        return system.get_buffer(name), isinstance(module, Remembers) and leaf in module.per_example
    except AttributeError:
        raise RunError(f"Bound.state: expected names of buffers of the system, got {name!r}.") from None


def _holds_batch(system: nn.Module, name: str) -> bool:
    path, _, leaf = name.rpartition(".")
    module = system.get_submodule(path)
    return isinstance(module, HoldsBatch) and leaf in module.per_batch


def _gathered(mine: Tensor) -> Tensor:
    """Rows of all processes; shorter parts are filled up with a repetition of their first row."""
    if not several():
        return mine
    counts = [torch.zeros(1, dtype=torch.long, device=mine.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(mine)], device=mine.device))
    most = int(max(count.item() for count in counts))
    padded = torch.cat([mine, mine[:1].expand(most - len(mine), *mine.shape[1:])]).contiguous()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([each[: int(count)] for each, count in zip(parts, counts, strict=True)])


def _first(value: Tensor) -> Tensor:
    if several():
        value = value.contiguous().clone()
        dist.broadcast(value, 0)
    return value


def several() -> bool:
    """Whether training runs in several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
