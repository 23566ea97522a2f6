"""Writing ``Bound.state`` into a system's buffers, the same on every process."""

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int
from torch import Tensor, nn

from curvae import linalg
from curvae.training.errors import RunError
from curvae.typing import State


@torch.no_grad()
def write_state(
    system: nn.Module, state: State, index: Int[Tensor, " B"], rows: int, keep: Bool[Tensor, ""] | None = None
) -> None:
    """Give buffers their new values, by name relative to the system.

    A value of the buffer's shape replaces it. A value with a row for each datum of the batch, where the buffer has a
    row for each datum of the training table, is written at ``index``; -1 writes nothing. With several processes such
    rows are gathered from all, and other values are those of the first.

    Args:
        system: whose buffers are written.
        state: new values.
        index: rows of the training table that the batch holds.
        rows: number of rows of the training table.
        keep: where False, on the device, nothing changes.

    Raises:
        RunError: no such buffer, or a value that fits it in neither way.

    Example:
        >>> module = torch.nn.Module()
        >>> module.register_buffer("table", torch.zeros(4))
        >>> write_state(module, {"table": torch.tensor([5.0, 6.0, 7.0])}, torch.tensor([2, 0, -1]), rows=4)
        >>> module.table
        tensor([6., 0., 5., 0.])
    """
    for name, value in state.items():
        buffer = _buffer(system, name)
        if _is_table(buffer, value, index, rows):
            everywhere, values = _gathered(index), _gathered(value.to(buffer.dtype))
            if keep is not None:
                values = torch.where(keep, values, buffer[everywhere.clamp(min=0)])
            _write_rows(buffer, everywhere, values)
        elif buffer.shape == value.shape:
            value = _first(value)
            buffer.copy_(value if keep is None else torch.where(keep, value, buffer))
        else:
            raise RunError(
                f"Bound.state[{name!r}]: expected {tuple(buffer.shape)}, the buffer's shape, or a row for each of the "
                f"batch's {len(index)} data; got {tuple(value.shape)}."
            )


def _write_rows(buffer: Tensor, index: Tensor, values: Tensor) -> None:
    """``buffer[index] = values`` but where the index is -1."""
    if linalg.may_look(buffer):
        seen = index >= 0
        buffer[index[seen]] = values[seen]
    else:  # a row too many takes what is not wanted: choosing rows would wait for the device
        longer = torch.cat([buffer, values[:1]])
        longer[torch.where(index < 0, len(buffer), index)] = values
        buffer.copy_(longer[:-1])


def _buffer(system: nn.Module, name: str) -> Tensor:
    try:
        return system.get_buffer(name)
    except AttributeError:
        raise RunError(f"Bound.state: expected names of buffers of the system, got {name!r}.") from None


def _is_table(buffer: Tensor, value: Tensor, index: Tensor, rows: int) -> bool:
    by_datum = value.ndim > 0 and buffer.ndim == value.ndim and value.shape[1:] == buffer.shape[1:]
    return by_datum and len(value) == len(index) and len(buffer) >= rows


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
