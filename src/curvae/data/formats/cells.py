"""Cells by genes: AnnData files, and Matrix Market with the names that stand beside it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.data.dialect import Decision
from curvae.data.errors import DataError
from curvae.data.formats.file_content import NONE, Found, Hints, NamedMatrix, with_columns_beside
from curvae.data.formats.opening import imported, parsed, require_room
from curvae.data.validation import numeric
from curvae.io.reading import Reading

GENES, CELLS = ("features.tsv", "genes.tsv"), ("barcodes.tsv",)
"""Files of names that 10x Genomics puts beside a matrix, of its rows and of its columns."""
MAIN = "X"


def read_h5ad(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """The matrix of an AnnData file, X or the layer under ``key``; labels are a column of its ``obs``.

    Raises:
        DataError: a broken file, no such layer, or anndata is not there.
    """
    anndata, h5py = imported(path, "anndata.io", "anndata"), imported(path, "h5py", "anndata")
    with parsed(path, "an AnnData file") as file, h5py.File(file, "r") as store:
        return read_cells(path, anndata, store, reading, hints)


def read_cells(path: Path, anndata: Any, store: Any, reading: Reading, hints: Hints) -> Found:
    """The same of AnnData that is open: in a file of HDF5, or a group of zarr."""
    read, layers = anndata.read_elem, list(store.get("layers", ()))
    key, obs = reading.key or MAIN, read(store["obs"])
    place = MAIN if key == MAIN else f"layers/{key}"
    if place not in store:
        raise DataError(f"{path}: expected key= as one of {', '.join([MAIN, *layers])}, got {key!r}.")
    names = read(store["var"]).index
    if hasattr(store[place], "shape"):
        require_room(path, int(np.prod(store[place].shape)))
    return _described(read(store[place]), list(map(str, names)), obs, key, [MAIN, *layers], reading, hints)


def is_anndata(x: Any) -> bool:
    """Whether it is AnnData in memory: then the caller has imported anndata."""
    anndata = sys.modules.get("anndata")
    return anndata is not None and isinstance(x, anndata.AnnData)


def without_anndata(x: Any, labels: Any, key: str | None, wanted: Sequence[str] = ()) -> tuple[Any, Any]:
    """Values and labels of AnnData in memory: the layer under ``key``, and the column of ``obs`` that labels name.

    Other columns of ``obs`` stand beside the values where they are wanted.
    """
    if key not in (None, MAIN) and key not in x.layers:
        raise DataError(f"x: expected key= as one of {', '.join([MAIN, *x.layers])}, got {key!r}.")
    names, _ = _unlike(list(map(str, x.var_names)))
    told = x.obs[labels].to_numpy() if isinstance(labels, str) and labels in x.obs.columns else labels
    values = NamedMatrix(x.X if key in (None, MAIN) else x.layers[key], names)
    return with_columns_beside("x", values, {name: x.obs[name].array for name in wanted if name in x.obs.columns}), told


def _described(
    matrix: Any, names: list[str], obs: Any, key: str, layers: Sequence[str], reading: Reading, hints: Hints
) -> Found:
    """A matrix with its names, a column of labels and those that are wanted beside it, and what was decided."""
    wanted = hints.label if reading.label is None else str(reading.label)
    known = {name: obs[name].array for name in hints.beside if name in obs.columns}
    labels = obs[wanted].to_numpy() if wanted in obs.columns else None
    made = [Decision("row names", "obs_names", "they are no feature"), *sparsity_decisions(matrix)]
    if len(layers) > 1:
        made.append(Decision("values", f"{key} of {', '.join(layers)}", "key='...'"))
    if beside := [str(name) for name in obs.columns if name != wanted and name not in known]:
        made.append(Decision("beside the values", f"{', '.join(beside[:20])} (obs)", "label='...'"))
    unlike, twice = _unlike(names)
    if twice:
        made.append(Decision("names", f"{twice} of them come twice or more: numbered", "var_names_make_unique()"))
    return Found(NamedMatrix(matrix, unlike), labels, tuple(made), known)


def read_matrix_market(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """A matrix of Matrix Market; with the names of genes and cells beside it, as 10x Genomics has them, cells are rows.

    Raises:
        DataError: a broken file.
    """
    from scipy import io, sparse

    with parsed(path, "a Matrix Market file") as file:
        found = io.mmread(file)
    matrix: Any = sparse.csr_matrix(found) if sparse.issparse(found) else np.asarray(found)
    genes, cells = _beside(path, GENES, matrix.shape[0]), _beside(path, CELLS, matrix.shape[1])
    if genes is None or reading.transpose is False:
        found = sparse.csr_matrix(matrix.T) if reading.transpose and sparse.issparse(matrix) else matrix
        return Found(found, None, sparsity_decisions(found))
    unlike, twice = _unlike(genes)
    told = "rows of the file are columns, named by features.tsv or genes.tsv beside it"
    made = [Decision("turned", told, "transpose=False"), *sparsity_decisions(matrix.T)]
    made += [Decision("row names", "barcodes.tsv", "they are no feature")] if cells is not None else []
    made += [Decision("names", f"{twice} of them come twice or more: numbered", "")] if twice else []
    turned = sparse.csr_matrix(matrix.T) if sparse.issparse(matrix) else matrix.T
    return Found(NamedMatrix(turned, unlike), None, tuple(made))


def _beside(path: Path, names: Sequence[str], count: int) -> list[str] | None:
    """Names in a file beside a matrix: as many as wanted, symbols rather than identifiers; None if there is none."""
    import pandas

    start = path.name.partition(".mtx")[0].removesuffix("matrix")
    for each in (path.parent / f"{start}{name}{packed}" for name in names for packed in ("", ".gz")):
        if each.is_file():
            with parsed(each, "a table of names") as file:
                table = pandas.read_csv(file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
            if len(table) == count:
                return table[1 if table.shape[1] > 1 else 0].tolist()
    return None


def _unlike(names: Sequence[str]) -> tuple[list[str], int]:
    """Names with a number behind those that came before, and how many these are.

    >>> _unlike(["a", "b", "a", "a"])
    (['a', 'b', 'a-1', 'a-2'], 2)
    """
    taken, found, count = set(names), [], dict[str, int]()
    seen: set[str] = set()
    for name in names:
        new = name
        while new in seen:
            count[name] = count.get(name, 0) + 1
            new = f"{name}-{count[name]}"
            new = name if new in taken else new
        seen.add(new)
        found.append(new)
    return found, sum(new != old for new, old in zip(found, names, strict=True))


def dense(what: str, matrix: Any) -> NDArray[Any]:
    """A sparse matrix as an array of float32 where that holds its values exactly, else of float64.

    Raises:
        DataError: there is no room for it, or it holds anything else than real numbers.
    """
    values = numeric(what, matrix.data)
    narrow = values.dtype.itemsize < 4 or values.dtype == np.float32 or _narrow(values)
    size = 4 if narrow else 8
    require_room(Path(what), int(np.prod(matrix.shape)), size, "choose columns with columns=[...], or fewer rows")
    return matrix.astype(np.float32 if narrow else np.float64).toarray()


def _narrow(values: NDArray[Any]) -> bool:
    """Whether float32 holds numbers exactly: whole ones that are not too large."""
    return bool((np.abs(values) < 2**24).all() and (values == np.floor(values)).all())


def sparsity_decisions(matrix: Any) -> tuple[Decision, ...]:
    """What is said of a sparse matrix; nothing of a dense one."""
    if not hasattr(matrix, "tocsc"):
        return ()
    count = int(np.prod(matrix.shape))
    share = f"{100 * matrix.nnz / max(1, count):.3g} % of {matrix.shape[0]:,} x {matrix.shape[1]:,} values are not 0"
    return (Decision("sparse", f"{share}; all are kept in memory, {4e-9 * count:.2g} GB in float32", "columns=[...]"),)
