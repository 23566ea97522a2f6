"""Arrays by name: archives of NumPy and SciPy, and MATLAB files; and one array alone."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.data.errors import DataError
from curvae.data.formats.cells import sparsity_decisions
from curvae.data.formats.file_content import NONE, Found, Hints
from curvae.data.formats.opening import parsed
from curvae.data.readers import map_npy, names_of_npz, read_bytes, read_npz
from curvae.io.reading import Reading

SPARSE = frozenset({"format", "shape", "data"})
"""Arrays that :func:`scipy.sparse.save_npz` writes, among others."""
WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
NUMBERS = frozenset({"double", "single", "logical", "sparse", *WHOLE})
OLDER = "save it in MATLAB with save('name.mat', ..., '-v7')"


def read_array(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """The array of a ``.npy`` file, mapped into memory where it is not compressed."""
    return Found(map_npy(path))


def read_archive(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """An array of a ``.npz`` archive, and labels where they are said or may be; or the sparse matrix that it is.

    Raises:
        DataError: a broken file, or a key that is not there.
    """
    names = names_of_npz(path)
    if set(names) >= SPARSE:
        from scipy import sparse

        with parsed(path, "a sparse matrix of SciPy"):
            x = sparse.load_npz(io.BytesIO(read_bytes(path)))
            return Found(x, None, sparsity_decisions(x))
    wanted, beside = keys_of_data(path, names, reading, hints)
    known = [name for name in hints.beside if name in names]
    arrays = read_npz(path, [name for name in (wanted, beside, *known) if name in names])
    return Found(arrays[wanted], arrays.get(beside or ""), (), {name: arrays[name] for name in known})


def read_matlab(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """A matrix of a MATLAB file, up to version 7, and labels where they are said or may be.

    Raises:
        DataError: a broken file or one of version 7.3, a key that is not there, or no matrix of numbers under it.
    """
    from scipy.io import loadmat, whosmat

    with parsed(path, "a MATLAB file") as file:
        try:
            kinds = {name: kind for name, _, kind in whosmat(file)}
        except NotImplementedError:
            raise DataError(f"{path}: expected a MATLAB file up to version 7, got one of 7.3; {OLDER}.") from None
        usable = [name for name, kind in kinds.items() if kind in NUMBERS]
        wanted, beside = keys_of_data(path, usable, reading, hints, list(kinds))
        known = [name for name in hints.beside if name in kinds]
        file.seek(0)
        found = loadmat(file, variable_names=[name for name in (wanted, beside, *known) if name in kinds])
    if wanted not in usable:
        got = f"a {kinds[wanted]} in {wanted!r}"
        raise DataError(f"{path}: expected a matrix of numbers, got {got}; save its numbers as a matrix.")
    x = found[wanted]
    x = x if hasattr(x, "tocsc") else np.asarray(x)
    labels = _words(found[beside]) if beside in found else None
    return Found(x, labels, sparsity_decisions(x), {name: _words(found[name]) for name in known})


def keys_of_data(
    path: Path, names: Sequence[str], reading: Reading, hints: Hints, every: Sequence[str] = ()
) -> tuple[str, str | None]:
    """The key of the data, and that of the labels if there are any."""
    beside = hints.label if reading.label is None else str(reading.label)
    others = [name for name in names if name != beside and name not in hints.beside]
    default = next((name for name in ("x", "X") if name in names), others[0] if len(others) == 1 else None)
    wanted = reading.key or default
    every = every or names
    for name in (wanted, *([beside] if reading.label is not None else [])):
        if name not in every:
            raise DataError(f"{path}: expected a key out of {', '.join(every)}, got {name!r}; say key= or label=.")
    return str(wanted), beside


def _words(values: NDArray[Any]) -> NDArray[Any]:
    """Labels ``(N,)`` of a matrix of one column or row, or of a cell array of words."""
    flat = np.asarray(values).reshape(-1) if np.ndim(values) else np.asarray(values)
    if flat.dtype != object:
        return flat
    return np.array([each.item() if getattr(each, "size", 0) == 1 else each for each in flat], dtype=object)
