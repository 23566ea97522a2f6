"""A system's weights as safetensors: written, read, put back, each to the last bit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from curvae.io import regular
from curvae.io.errors import parsing
from curvae.training.errors import RunError
from curvae.training.run import files, layout

Tensors = Mapping[str, Tensor]


class Loaded(NamedTuple):
    """Weights, and what says whose they are."""

    about: layout.WrittenModel
    tensors: dict[str, Tensor]
    sha256: str


def snapshot(system: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers, on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in system.state_dict().items()}


def to_safetensors(tensors: Tensors) -> bytes:
    """Tensors in safetensors format."""
    return safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})


def sealed(tensors: Tensors) -> bytes:
    """The same with the digest of itself, for a file that stands alone; :func:`read_sealed` is the inverse."""
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    return safetensors.torch.save(tensors, {"sha256": files.digest(to_safetensors(tensors))})


def read_sealed(path: Path) -> dict[str, Tensor]:
    """The tensors of such a file.

    Raises:
        RunError: see :func:`read_tensors`, or other tensors than were written.
    """
    content = content_of(path)
    tensors = from_safetensors(path, content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if header.get("__metadata__", {}).get("sha256") != files.digest(to_safetensors(tensors)):
        raise RunError(f"{path}: expected the weights that were saved, got others (another SHA-256); train again.")
    return tensors


def write_weights(folder: Path, tensors: Tensors) -> None:
    """Replace the weights of a run; killed anywhere in it, the folder has the old ones or the new, and says which.

    ``model.json`` first allows both, then the file is replaced, then the old ones are no longer allowed.

    Raises:
        RunError: the folder cannot be written; the old weights are still there.
    """
    content = to_safetensors(tensors)
    about = layout.read_document(folder, layout.MODEL)
    ours = {"sha256": files.digest(content), "tensors": _described(tensors)}
    others = [each for each in about.get("weights", []) if each["sha256"] != ours["sha256"]]
    files.write_sealed(folder / layout.MODEL, {**about, "format": files.FORMAT, "weights": [ours, *others]})
    files.write_file(folder / layout.WEIGHTS, content)
    files.write_sealed(folder / layout.MODEL, {**about, "format": files.FORMAT, "weights": [ours]})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RunError: no such file, a pickle (it is not opened), a truncated or otherwise damaged file.
    """
    return from_safetensors(path, content_of(path))


def content_of(path: Path) -> bytes:
    """The bytes of a safetensors file.

    Raises:
        RunError: no such file.
    """
    with files.telling(path, "has the run saved a model yet?"):
        return regular.read_regular(path)


def from_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file.

    Raises:
        RunError: a pickle, or damaged.
    """
    try:
        with files.telling(path, "copy it anew, or train again"), parsing(path, "safetensors"):
            return safetensors.torch.load(content)
    except RunError:
        if content.startswith((b"PK\x03\x04", b"\x80")):  # a safetensors header may begin so, but then it loads
            raise RunError(
                f"{path}: expected safetensors, got a pickle, which can run any code; curvae never opens one."
            ) from None
        raise


def read_weights(folder: Path) -> Loaded:
    """The weights of a run and what they are of, checked against each other.

    Raises:
        RunError: a file is missing or damaged, or these are not the weights that the run wrote.
    """
    path = folder / layout.WEIGHTS
    about = layout.read_document(folder, layout.MODEL)
    while True:
        content = content_of(path)
        sha256, tensors = files.digest(content), from_safetensors(path, content)
        known = about.get("weights")
        if known is None or {"sha256": sha256, "tensors": _described(tensors)} in known:
            return Loaded(about, tensors, sha256)
        before, about = about, layout.read_document(folder, layout.MODEL)
        if before == about:  # else training has replaced them between the two files
            raise RunError(
                f"{path}: expected the weights that model.json tells of, got others (another SHA-256): damaged, or of "
                "another run; copy the folder anew, or train again."
            )


def digest_of_weights(folder: Path) -> str | None:
    """SHA-256 of the weights that are there; None if none are."""
    try:
        return files.digest(content_of(folder / layout.WEIGHTS))
    except RunError:
        return None


@torch.no_grad()
def load_into(system: nn.Module, tensors: Tensors, source: str | Path) -> None:
    """Put weights back, every one of them; buffers take the size they were saved with (a stage may have set it).

    Raises:
        RunError: names, shapes or types are not those of the system: nothing is cast or spread.
    """
    own = system.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        wrong = f"no {missing[0]!r}" if missing else f"{unknown[0]!r} besides"
        raise RunError(f"{source}: expected the {len(own)} tensors of {type(system).__name__}, got {wrong}.")
    parameters = dict(system.named_parameters())
    for name, value in sorted(tensors.items()):
        if value.dtype != own[name].dtype:
            types = f"{own[name].dtype}, got {value.dtype}"
            raise RunError(f"{source}: {name}: expected {types}; it is damaged or of another system.")
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


def _described(tensors: Tensors) -> dict[str, layout.WrittenTensor]:
    return {
        name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": tuple(value.shape)}
        for name, value in tensors.items()
    }
