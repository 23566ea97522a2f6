"""Bytes to plain values, with a limit on what they may become; every failure is a :class:`FileError`."""

import io
import json
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.io import regular
from curvae.io.errors import FileError, parsing

SMALL = 2**26
RATIO = 200
"""What is compressed may inflate to 64 MiB, or to so many times its size: nothing measured is so empty."""
JSON_LIMIT, YAML_LIMIT = 2**24, 2**20


def read_json(path: Path) -> Any:
    """The value in a JSON file; NaN and infinity are no JSON."""
    content = regular.read_regular(path, JSON_LIMIT)
    with parsing(path, "JSON"):
        return json.loads(content.decode("utf-8"), parse_constant=_no_number)


def read_yaml(path: Path) -> Any:
    """The value in a YAML file, without aliases: with them a small file could say a very large value."""
    content = regular.read_regular(path, YAML_LIMIT)
    with parsing(path, "YAML"):
        return _yaml(content.decode("utf-8"))


def read_npz(path: Path, names: Collection[str] | None = None, content: bytes | None = None) -> dict[str, NDArray]:
    """The arrays of a ``.npz`` file by name; arrays of Python objects are refused.

    Args:
        path: the file.
        names: read no others than these.
        content: its bytes, where they have been read.
    """
    file = regular.opened(path) if content is None else io.BytesIO(content)
    with file, parsing(path, "a .npz archive of numbers"), zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise FileError(f"{path}: expected each array once, got one twice")
        chosen = {name: info for name, info in members.items() if names is None or name in names}
        check_size(path, sum(i.file_size for i in chosen.values()), sum(i.compress_size for i in chosen.values()))
        return {name: read_npy(path, archive.read(info)) for name, info in chosen.items()}


def names_of_npz(path: Path, content: bytes) -> list[str]:
    """Names of the arrays in the bytes of a ``.npz`` file, none of which is read."""
    with parsing(path, "a .npz archive of numbers"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [info.filename.removesuffix(".npy") for info in archive.infolist()]


def read_npy(path: Path, content: bytes) -> NDArray:
    """The array in the bytes of a ``.npy`` file."""
    with parsing(path, "a .npy array of numbers"):
        stream = io.BytesIO(content)
        if content[:6] != np.lib.format.MAGIC_PREFIX:
            raise ValueError("something that does not begin like one")
        array = np.load(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError("more bytes than the array has")
        return array


def inflated(path: Path, stream: io.BufferedIOBase, packed: int) -> bytes:
    """All of a compressed stream, unless it becomes implausibly long."""
    content = stream.read(SMALL + RATIO * packed + 1)
    check_size(path, len(content), packed)
    return content


def check_size(path: Path, size: int, packed: int) -> None:
    """
    Raises:
        FileError: ``packed`` bytes inflate to implausibly many.
    """
    if size > SMALL + RATIO * packed:
        raise FileError(
            f"{path}: expected at most {SMALL + RATIO * packed:,} bytes out of {packed:,} compressed ones, got "
            f"{size:,}; if it is meant to be so, save it uncompressed"
        )


def _no_number(word: str) -> Any:
    raise ValueError(f"{word}, which is no number")


def _yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("an alias (*name); write the value out")
            return super().compose_node(parent, index)

    return yaml.load(text, Loader)
