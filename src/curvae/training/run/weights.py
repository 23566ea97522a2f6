"""A system's weights as safetensors: written, read, put back."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from curvae.training.errors import RunError

Tensors = Mapping[str, Tensor]


def snapshot(system: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers, on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in system.state_dict().items()}


def encode(tensors: Tensors) -> bytes:
    """Tensors in safetensors format."""
    return safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RunError: no such file, a pickle (it is not opened), a truncated or otherwise damaged file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path}: expected a safetensors file, found none; has the run saved a model yet?") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        if content.startswith((b"PK\x03\x04", b"\x80")):  # a safetensors header may begin so, but then it loads
            raise RunError(
                f"{path}: expected safetensors, got a pickle, which can run any code; curvae never opens one."
            ) from None
        raise RunError(f"{path}: expected safetensors, got a truncated or damaged file ({error}).") from None


@torch.no_grad()
def restore(system: nn.Module, tensors: Tensors, source: str | Path) -> None:
    """Put weights back, every one of them; buffers take the size they were saved with (a stage may have set it).

    Raises:
        RunError: names or shapes are not those of the system.
    """
    own = system.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        wrong = f"no {missing[0]!r}" if missing else f"{unknown[0]!r} besides"
        raise RunError(f"{source}: expected the {len(own)} tensors of {type(system).__name__}, got {wrong}.")
    parameters = dict(system.named_parameters())
    for name, value in sorted(tensors.items()):
        if value.shape != own[name].shape and name in parameters:
            shapes = f"{tuple(own[name].shape)}, got {tuple(value.shape)}"
            raise RunError(f"{source}: {name}: expected shape {shapes}; it is of another system, or other sizes.")
        if value.shape != own[name].shape:
            _resize(system, name, value)
    system.load_state_dict(dict(tensors))


def _resize(system: nn.Module, name: str, value: Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    module = system.get_submodule(parent)
    setattr(module, leaf, value.to(getattr(module, leaf).device, copy=True))
