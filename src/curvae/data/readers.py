"""Files of the field to numpy arrays: IDX, amat, packed bits, CIFAR's binary version, MATLAB; nothing is unpickled."""

import gzip
import io
import lzma
import os
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np

from curvae.data.errors import DataError
from curvae.data.stored import LEAST
from curvae.io import FileError, formats, regular
from curvae.io.errors import parsing

OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def read_bytes(path: Path) -> bytes:
    """The content of a plain, ``.gz`` or ``.xz`` file.

    Raises:
        DataError: the file is missing or no regular file, its compression is broken, or it inflates without measure.
    """
    with as_data_errors(path), regular.opened(path) as file, parsing(path, f"a whole {path.suffix or 'plain'} file"):
        if path.suffix not in OPENERS:
            return file.read()
        with OPENERS[path.suffix](file, "rb") as stream:
            return formats.inflated(path, stream, os.fstat(file.fileno()).st_size)


def open_regular(path: Path) -> io.BufferedReader:
    """A plain file, open for reading.

    Raises:
        DataError: the file is missing, or no regular file.
    """
    with as_data_errors(path):
        return regular.opened(path)


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes (MNIST and its relatives), in its own shape."""
    content = read_bytes(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path}: expected an IDX file of bytes (magic 00 00 08), got {content[:3].hex(' ') or 'nothing'}."
        )
    start = 4 + 4 * content[3]
    _check_size(path, len(content), start, at_least=True)
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    _check_size(path, len(content), start + prod(shape))
    with as_data_errors(path), parsing(path, "an IDX file of bytes"):
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_npy(path: Path) -> np.ndarray:
    """A ``.npy`` array, compressed or not; arrays of Python objects are refused."""
    with as_data_errors(path):
        return formats.read_npy(path, read_bytes(path))


def map_npy(path: Path) -> np.ndarray:
    """A ``.npy`` array mapped into memory: what of it is not looked at is not read, and nothing is written to the file.

    One that is compressed, empty or damaged goes the way of :func:`read_npy`.
    """
    if path.suffix in OPENERS:
        return read_npy(path)
    with open_regular(path) as file, suppress(Exception):
        mapped = np.lib.format.open_memmap(path, mode="r" if os.fstat(file.fileno()).st_size >= LEAST else "c")
        if mapped.offset + mapped.nbytes == os.fstat(file.fileno()).st_size:
            return mapped
    return read_npy(path)


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` archive by name, all or those named; arrays of Python objects are refused."""
    with as_data_errors(path):
        return formats.read_npz(path, names, read_bytes(path))


def names_of_npz(path: Path) -> list[str]:
    """Names of the arrays in a ``.npz`` archive, compressed or not."""
    with as_data_errors(path):
        return formats.names_of_npz(path, read_bytes(path))


def read_packed(path: Path, width: int) -> np.ndarray:
    """Bits packed along the last axis of a ``.npy`` array, to 0/1 bytes with a last axis of ``width``."""
    packed = read_npy(path)
    if packed.dtype != np.uint8 or packed.shape[-1] != -(-width // 8):
        expected = f"packed bits, uint8 (..., {-(-width // 8)})"
        raise DataError(f"{path}: expected {expected}, got {packed.dtype} {packed.shape}.")
    return np.unpackbits(packed, axis=-1, count=width)


def read_amat(path: Path, width: int = 784) -> np.ndarray:
    """Text of 0s and 1s, one example a line (Larochelle's binarized MNIST), to bytes ``(N, width)``."""
    content = np.frombuffer(read_bytes(path), np.uint8)
    if not np.isin(content[:4096], np.frombuffer(b"01 \r\n", np.uint8)).all():
        raise DataError(
            f"{path}: expected text of 0 and 1, got {bytes(content[:6])!r}...; take the original .amat file."
        )
    bits = content[(content == 48) | (content == 49)] - np.uint8(48)
    if len(bits) == 0 or len(bits) % width:
        raise DataError(f"{path}: expected a multiple of {width} values, got {len(bits)}; the file is cut short.")
    return bits.reshape(-1, width)


def read_cifar(content: bytes, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Records of CIFAR-10's binary version, label then planes: images ``(N, 3, 32, 32)`` and labels ``(N,)``."""
    if not content or len(content) % 3073:
        raise DataError(
            f"{what}: expected records of 3073 bytes, got {len(content)} bytes; fetch cifar-10-binary.tar.gz."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def read_jpegs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Small JPEG pictures in one file: count, offsets, labels, bytes; to ``(N, 3, H, W)`` and ``(N,)``."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"{path}: expected Pillow to read JPEG copies, got none; run: pip install 'curvae[images]'."
        ) from None
    content = read_bytes(path)
    count = int.from_bytes(content[:4], "little")
    start = 4 + 4 * (count + 1)
    _check_size(path, len(content), start + count, at_least=True)
    offsets = np.frombuffer(content, "<u4", count + 1, 4)
    labels = np.frombuffer(content, np.uint8, count, start)
    _check_size(path, len(content), start + count + int(offsets[-1]))
    jpegs = memoryview(content)[start + count :]
    pictures = [jpegs[i:j] for i, j in pairwise(offsets.tolist())]
    with as_data_errors(path), parsing(path, "JPEG pictures of one size"):
        images = np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in pictures])
        return images.transpose(0, 3, 1, 2), labels.astype(np.int64)


def read_mat(path: Path, *keys: str) -> tuple[np.ndarray, ...]:
    """The named arrays of a MATLAB v5 file."""
    from scipy.io import loadmat

    content = read_bytes(path)
    with as_data_errors(path), parsing(path, "a MATLAB v5 file"):
        found = loadmat(io.BytesIO(content), variable_names=keys)
    if missing := [key for key in keys if key not in found]:
        raise DataError(f"{path}: expected the arrays {list(keys)}, got none named {missing[0]!r}.")
    return tuple(found[key] for key in keys)


def _check_size(path: Path, got: int, expected: int, at_least: bool = False) -> None:
    if got < expected or (got > expected and not at_least):
        raise DataError(f"{path}: expected {expected:,} bytes, got {got:,}; the file is cut short or not what it says.")


@contextmanager
def as_data_errors(path: Path) -> Iterator[None]:
    """
    Raises:
        DataError: in place of a FileError, or of a file that is not there.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: expected a file, got nothing there; check the path.") from None
    except FileError as error:
        raise DataError(f"{error}; fetch or save it anew.") from None
