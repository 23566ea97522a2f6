"""Own data from files: ``.npy``, ``.npz`` and text tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curvae.data.data import Data
from curvae.data.errors import DataError
from curvae.data.readers import names_of_npz, read_npy, read_npz
from curvae.data.schema import Origin, Schema
from curvae.data.tables.assembling import Options, assemble
from curvae.data.tables.columnar import columnar
from curvae.data.tables.content import Content, from_columns, position_of, relabeled, take
from curvae.data.tables.matching import AS_THE_RUN, Matched, Reading, match, select_columns
from curvae.data.tables.text import TextTable, read_text
from curvae.data.transforms import Transform

TEXT = (".csv", ".tsv", ".txt")


class Found(NamedTuple):
    """What a file holds: a table of named columns or an array, and labels where they stand beside it."""

    x: TextTable | np.ndarray
    labels: np.ndarray | None = None


def from_file(
    path: str | Path,
    columns: Sequence[str | int] | None = None,
    label: str | int | None = None,
    test: str | Path | None = None,
    *,
    positions: Sequence[int] | None = None,
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
        columns: the features by name, in the order in which the model sees them; by default all but the label. Columns
            without names are called by their numbers, from 0.
        label: the column with the labels, numbers or words, by name; a number that is no name counts columns, from the
            end if negative. In a ``.npz`` a key.
        test: a second file of the same kind as the test part; its columns are found by name, in whatever order.
        positions: the features by their place instead, counted from 0, or from the end if negative.
        key: which array of a ``.npz``; by default its only one, or ``x``.
        header: whether a text file starts with names; by default it does if all cells of its first row are text.
        support: ``"real"``, ``"binary"`` or ``"category"``.
        categories: number of categories.
        split: shares of training, validation and test rows.
        standardize: to mean 0 and variance 1.
        transform: used instead; its place in the recipe stays empty.
        missing: ``"mask"`` turns empty cells, ``?``, ``NA`` and NaN into a mask; ``"error"`` refuses them.
        event: shape of one example.
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
    options = Options(
        support, categories, list(split), standardize, transform, missing, event and list(event), seed,
        name or stem(Path(path)),
    )  # fmt: skip
    reading = Reading(columns, positions, label, key, header)
    contents = [_content(Path(path).expanduser(), reading)]
    if test is not None:
        contents.append(_test_part(contents[0], Path(test).expanduser(), reading))
    recipe = reading.recipe(path) | {"test": test and str(test)}
    recipe |= options._asdict() | {"transform": transform and "own"}
    return assemble(contents, options, recipe, [Origin.of(each) for each in (path, test) if each is not None])


def match_file(schema: Schema, path: Path, reading: Reading = AS_THE_RUN) -> Matched:
    """All rows of a file as those of a run were read; see :func:`curvae.data.match`.

    Raises:
        DataError: a broken file, or rows that do not fit.
    """
    found = read_file(path, reading, None if schema.label is None else schema.label.name)
    if found.labels is not None:
        reading = reading._replace(label=None)
    return match(schema, str(path), found.x, found.labels, reading=reading)


def _content(path: Path, reading: Reading) -> Content:
    """What a file holds, taken apart."""
    found, label, positions = read_file(path, reading), reading.label, reading.positions
    if (table := columnar(str(path), found.x)) is not None:
        beside = found.labels is not None
        content = from_columns(table, reading.columns, positions, None if beside else label)._replace(holder="file")
        return relabeled(content._replace(labels=found.labels), str(label)) if beside else content
    assert isinstance(found.x, np.ndarray)
    if reading.columns is not None:
        positions = _places(path, found.x, reading.columns, positions)
    labels = label if found.labels is None else found.labels
    content = take(str(path), found.x, labels, positions=positions)._replace(holder="file")
    return content if found.labels is None else relabeled(content, str(label))


def _test_part(first: Content, path: Path, reading: Reading) -> Content:
    """What the file of a test part holds, its columns in the order of the first."""
    found = read_file(path, reading._replace(label=None), None if reading.label is None else str(reading.label))
    content = select_columns(first.columns, first.named, str(path), found.x)
    return content if found.labels is None else content._replace(labels=found.labels)


def read_file(path: Path, reading: Reading, label: str | None = None) -> Found:
    """What a file holds; of an archive the labels too: those that are said must be there, those under ``label`` may."""
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix not in (".gz", ".xz")), "")
    if kind in TEXT:
        return Found(read_text(path, reading.header))
    if kind == ".npy":
        return Found(read_npy(path))
    if kind == ".npz":
        needed = reading.label is not None
        return _archive(path, reading.key, str(reading.label) if needed else label, needed)
    raise DataError(f"{path}: expected .npy, .npz, .csv, .tsv or .txt (or .gz, .xz of it), got {kind or 'no'} suffix.")


def _archive(path: Path, key: str | None, label: str | None, needed: bool) -> Found:
    names = names_of_npz(path)
    wanted = key or ("x" if "x" in names else names[0] if len(names) == 1 else None)
    for name in (wanted, *([label] if needed else [])):
        if name not in names:
            raise DataError(f"{path}: expected a key out of {', '.join(names)}, got {name!r}; say key= or label=.")
    arrays = read_npz(path, [name for name in (wanted, label) if name in names])
    return Found(arrays[str(wanted)], arrays.get(label or ""))


def _places(path: Path, x: np.ndarray, columns: Sequence[str | int], positions: Sequence[int] | None) -> Sequence[int]:
    """Where the columns of an array without names are, which are called by their numbers."""
    if positions is not None:
        raise DataError("positions: expected columns by name or positions, got both; leave one of them out.")
    if x.ndim != 2:
        raise DataError(f"{path}: expected a table (N, F) to choose columns or a label from, got shape {x.shape}.")
    header = list(map(str, range(x.shape[1])))
    return [position_of(str(path), column, header) for column in columns]


def stem(path: Path) -> str:
    """The name of a file without what follows its first dot."""
    return path.name.split(".")[0] or path.name
