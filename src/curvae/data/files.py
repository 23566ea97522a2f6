"""Own data from files: ``.npy``, ``.npz`` and text tables."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curvae.data.arrays import from_array
from curvae.data.data import Data
from curvae.data.errors import DataError
from curvae.data.readers import names_of_npz, read_npy, read_npz
from curvae.data.text import place, read_text
from curvae.data.transforms import Transform

TEXT = (".csv", ".tsv", ".txt")


class Content(NamedTuple):
    x: np.ndarray
    labels: np.ndarray | None
    columns: list[str] | None


def from_file(
    path: str | Path,
    columns: Sequence[str | int] | None = None,
    label: str | int | None = None,
    test: str | Path | None = None,
    *,
    key: str | None = None,
    header: bool | None = None,
    support: str | None = None,
    categories: int | None = None,
    split: Sequence[float | int] = (0.7, 0.15, 0.15),
    standardize: bool | None = None,
    transform: Transform | str | None = None,
    missing: str = "error",
    event: Sequence[int] | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Data:
    """Data of your own from a file; what is not said here is as in :func:`curvae.data.from_array`.

    Args:
        path: a ``.npy``, ``.npz``, ``.csv``, ``.tsv`` or ``.txt`` file, plain or compressed (``.gz``, ``.xz``).
        columns: the features, by name or number; by default all but the label.
        label: the column with the labels, numbers or text (coded in alphabetical order); in a ``.npz`` a key.
        test: a second file of the same kind as the test part.
        key: which array of a ``.npz``; by default its only one, or ``x``.
        header: whether a text file starts with names; by default it does if all cells of its first row are text.
        support: ``"real"``, ``"binary"`` or ``"category"``.
        categories: number of categories.
        split: shares of training, validation and test rows.
        standardize: to mean 0 and variance 1.
        transform: used instead; its place in the recipe stays empty.
        missing: ``"mask"`` turns empty cells, ``?``, ``NA`` and NaN into a mask; ``"error"`` refuses them.
        event: shape of one datum.
        seed: of the split.
        name: by default the file's.

    Raises:
        DataError: a missing or broken file, an unknown column, text where a number should be, and so on.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "stars.csv"
    ...     _ = path.write_text("u,g,class\\n" + "1.5,2.5,STAR\\n3.5,2.0,QSO\\n" * 10)
    ...     from_file(path, label="class")
    Data(stars: 14 + 3 + 3 x (2,), real, data as given)
    """
    if isinstance(transform, str):
        raise DataError(f"transform: expected an object, got {transform!r}; pass the one that was used again.")
    options: dict[str, Any] = {"support": support, "categories": categories, "split": list(split)}
    options |= {"standardize": standardize, "missing": missing, "event": event and list(event), "seed": seed}
    options["name"] = name or _stem(Path(path))
    content = read(Path(path).expanduser(), columns, label, key, header)
    if test is None:
        tested = {}
    else:
        part = read(Path(test).expanduser(), columns, label, key, header)
        tested = {"test": part.x, "test_labels": part.labels}
    data = from_array(content.x, content.labels, columns=content.columns, transform=transform, **tested, **options)
    recipe = {"path": str(path), "columns": columns and list(columns), "label": label, "test": test and str(test)}
    return replace(data, recipe=recipe | {"key": key, "header": header, "transform": transform and "own"} | options)


def read(
    path: Path, columns: Sequence[str | int] | None, label: str | int | None, key: str | None, header: bool | None
) -> Content:
    """What a file holds: features, labels, names of columns."""
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix not in (".gz", ".xz")), "")
    if kind in TEXT:
        return _from_text(path, columns, label, header)
    if kind == ".npy":
        return _from_array(path, read_npy(path), columns, label)
    if kind == ".npz":
        return _from_archive(path, columns, label, key)
    raise DataError(f"{path}: expected .npy, .npz, .csv, .tsv or .txt (or .gz, .xz of it), got {kind or 'no'} suffix.")


def _from_text(
    path: Path, columns: Sequence[str | int] | None, label: str | int | None, header: bool | None
) -> Content:
    table = read_text(path, header)
    places, labeled = _places(path, table.header, columns, label)
    labels = None if labeled is None else table.values(labeled)
    return Content(table.numbers(places), labels, [table.header[j] for j in places])


def _from_array(path: Path, x: np.ndarray, columns: Sequence[str | int] | None, label: str | int | None) -> Content:
    if columns is None and label is None:
        return Content(x, None, None)
    if x.ndim != 2:
        raise DataError(f"{path}: expected a table (N, F) to choose columns or a label from, got shape {x.shape}.")
    header = [str(j) for j in range(x.shape[1])]
    places, labeled = _places(path, header, columns, label)
    return Content(x[:, places], None if labeled is None else x[:, labeled], [header[j] for j in places])


def _from_archive(path: Path, columns: Sequence[str | int] | None, label: str | int | None, key: str | None) -> Content:
    names = names_of_npz(path)
    wanted = key or ("x" if "x" in names else names[0] if len(names) == 1 else None)
    chosen = (wanted, *([] if label is None else [str(label)]))
    for name in chosen:
        if name not in names:
            raise DataError(f"{path}: expected a key out of {', '.join(names)}, got {name!r}; say key= or label=.")
    arrays = read_npz(path, [str(name) for name in chosen])
    content = _from_array(path, arrays[str(wanted)], columns, None)
    return content if label is None else content._replace(labels=arrays[str(label)])


def _places(
    path: Path, header: Sequence[str], columns: Sequence[str | int] | None, label: str | int | None
) -> tuple[list[int], int | None]:
    """Where the features are and where the label is."""
    labeled = None if label is None else place(path, label, header)
    chosen = range(len(header)) if columns is None else [place(path, column, header) for column in columns]
    if not (kept := [j for j in chosen if j != labeled]):
        raise DataError(f"{path}: expected at least one feature column besides the label, got none; widen columns.")
    return kept, labeled


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or path.name
