"""Own data from files: ``.npy``, ``.npz`` and text tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curvae.data.data import Data
from curvae.data.dialect import Dialect
from curvae.data.errors import DataError
from curvae.data.readers import names_of_npz, read_npy, read_npz
from curvae.data.schema import Origin, Schema
from curvae.data.tables.advice import say_decided
from curvae.data.tables.assembling import Options, assemble, chosen
from curvae.data.tables.columnar import columnar
from curvae.data.tables.content import Content, from_columns, position_of, relabeled, take
from curvae.data.tables.matching import AS_THE_RUN, Matched, match, select_columns
from curvae.data.text.table import TextTable, read_text
from curvae.io.reading import Reading

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
    reading: Reading | None = None,
    options: Options | None = None,
    **single: Any,
) -> Data:
    """Data of your own from a file.

    What is decided of a text file stands in ``schema.decisions``; ``curvae data FILE`` prints it.

    Args:
        path: a ``.npy``, ``.npz``, ``.csv``, ``.tsv`` or ``.txt`` file, plain or compressed (``.gz``, ``.xz``).
        columns: the features by name, in the order in which the model sees them; by default all but the label. Columns
            without names are called by their numbers, from 0.
        label: the column with the labels, numbers or words, by name; a number that is no name counts columns, from the
            end if negative. In a ``.npz`` a key.
        test: a second file of the same kind as the test part; its columns are found by name, in whatever order.
        reading: how it is read, see :class:`curvae.data.Reading`.
        options: how its rows become data, see :class:`curvae.data.Options`.
        single: single ones of these by name, as ``missing="mask"``, ``decimal=","`` or ``split=(0.5, 0.25, 0.25)``.

    Raises:
        DataError: a missing or broken file, an unknown column, text where a number should be, and so on.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "stars.csv"
    ...     _ = path.write_text("u,g,class\\n" + "1.5,2.5,STAR\\n3.5,2.0,QSO\\n" * 10)
    ...     from_file(path, label="class")
    Data(stars: 14 + 3 + 3 x (2,), real, data as given)
    """
    if isinstance(single.get("transform"), str):
        got = f"got {single['transform']!r}; pass the one that was used again"
        raise DataError(f"transform: expected an object, {got}.")
    named = {name: value for name, value in (("columns", columns), ("label", label)) if value is not None}
    how, options = chosen("from_file", reading, options, {"name": stem(Path(path)), **named_options(single), **named})
    contents = [_content(Path(path).expanduser(), how)]
    if test is not None:
        contents.append(_test_part(contents[0], Path(test).expanduser(), how))
    recipe = {"path": str(path), **how.recipe(), "test": test and str(test), **options.recipe()}
    recipe["missing"] = how.missing or ("error" if how.missing_value is None else "mask")
    return assemble(contents, how, options, recipe, [Origin.of(each) for each in (path, test) if each is not None])


def named_options(single: Mapping[str, Any]) -> dict[str, Any]:
    """Options without a name that is none."""
    return {name: value for name, value in single.items() if name != "name" or value is not None}


def match_file(schema: Schema, path: Path, reading: Reading = AS_THE_RUN) -> Matched:
    """All rows of a file as those of a run were read; see :func:`curvae.data.match`.

    Raises:
        DataError: a broken file, or rows that do not fit.
    """
    known = () if reading.features or not schema.named else schema.names
    label = None if schema.label is None else schema.label.name
    found = read_file(path, reading, label, schema.dialect, known)
    if found.labels is not None:
        reading = replace(reading, label=None)
    if isinstance(found.x, TextTable):
        say_decided(found.x.what, found.x.dialect, found.x.decisions, schema.decisions)
    return match(schema, str(path), found.x, found.labels, reading=reading)


def _content(path: Path, reading: Reading) -> Content:
    """What a file holds, taken apart."""
    found = read_file(path, reading)
    if (table := columnar(str(path), found.x)) is not None:
        beside = found.labels is not None
        content = from_columns(table, replace(reading, label=None) if beside else reading)._replace(holder="file")
        if isinstance(table, TextTable):
            say_decided(table.what, table.dialect, table.decisions)
            content = content._replace(dialect=table.dialect, decisions=table.decisions)
        return relabeled(content._replace(labels=found.labels), str(reading.label)) if beside else content
    assert isinstance(found.x, np.ndarray)
    if reading.columns is not None:
        positions = _places(path, found.x, reading.columns, reading.positions)
        reading = replace(reading, columns=None, positions=positions)
    content = take(str(path), found.x, found.labels, None, reading)._replace(holder="file")
    return content if found.labels is None else relabeled(content, str(reading.label))


def _test_part(first: Content, path: Path, reading: Reading) -> Content:
    """What the file of a test part holds, its columns in the order of the first."""
    label = None if reading.label is None else str(reading.label)
    names = [column.name for column in first.columns if column.is_feature] if first.named else ()
    found = read_file(path, replace(reading, label=None), label, first.dialect, names)
    content = select_columns(first.columns, first.named, str(path), found.x)
    return content if found.labels is None else content._replace(labels=found.labels)


def read_file(
    path: Path, reading: Reading, label: str | None = None, prior: Dialect | None = None, known: Sequence[str] = ()
) -> Found:
    """What a file holds; of an archive the labels too: those that are said must be there, those under ``label`` may.

    Args:
        path: the file.
        reading: how it is read.
        label: key of labels that may be there.
        prior: how a text file like it was read.
        known: names of columns that a text file is expected to have.
    """
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix not in (".gz", ".xz")), "")
    if kind in TEXT:
        return Found(read_text(path, reading, prior, known))
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


def _places(path: Path, x: np.ndarray, columns: Sequence[Any], positions: Sequence[int] | None) -> Sequence[int]:
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
