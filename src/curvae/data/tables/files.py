"""Own data from files: which format is read by what, and what of it becomes features and labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curvae.data.data import Data
from curvae.data.errors import DataError
from curvae.data.formats.arrays import read_archive, read_array, read_matlab
from curvae.data.formats.arrow import read_feather, read_parquet
from curvae.data.formats.astronomy import read_astropy, read_fits
from curvae.data.formats.cells import read_h5ad, read_matrix_market
from curvae.data.formats.file_content import NONE, Found, Hints, with_columns_beside
from curvae.data.formats.pictures import read_folder
from curvae.data.formats.spreadsheet import OLD, read_excel, refuse_old
from curvae.data.formats.zarr_arrays import is_zarr, read_zarr
from curvae.data.readers import OPENERS
from curvae.data.schema import Origin, Schema
from curvae.data.tables.advice import say_decided
from curvae.data.tables.assembling import Options, assemble, resolve_options
from curvae.data.tables.columnar import columnar
from curvae.data.tables.content import (
    Content,
    from_columns,
    names_in,
    position_of,
    relabeled,
    split_content,
    with_split,
    without_split,
)
from curvae.data.tables.context import names_of_roles
from curvae.data.tables.long_tables import sequence_content, sequences_to_test
from curvae.data.tables.matching import AS_THE_RUN, Matched, match, select_columns
from curvae.data.text.table import TextTable, read_text
from curvae.io.reading import Reading


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
        path: a file: text (``.csv``, ``.tsv``, ``.txt``, ``.dat``, ...), ``.npy``, ``.npz``, Parquet, Feather, Excel,
            AnnData, Matrix Market, FITS, VOTable, ECSV or MATLAB; plain or compressed (``.gz``, ``.xz``). Or a folder
            (``.zarr``) or archive (``.zarr.zip``) of zarr, or a folder of PNG and JPEG pictures of one size, whose
            sub-folders are labels.
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
    how, options = resolve_options(
        "from_file", reading, options, {"name": stem(Path(path)), **named_options(single), **named}
    )
    if how.sequence is not None:
        contents = [_sequences(Path(path).expanduser(), how, options)]
    else:
        contents = [_content(Path(path).expanduser(), without_split(how, options.split_by), options.split_by)]
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
    found = read_file(path, reading, Hints(label, schema.dialect, known, names_of_roles(schema.columns)))
    if found.labels is not None:
        reading = replace(reading, label=None)
    say_decided(str(path), found.decisions, schema.decisions)
    matched = match(schema, str(path), found.x, found.labels, reading=reading)
    return matched if schema.sequence is not None else matched._replace(table=columnar(str(path), found.x))


def _content(path: Path, reading: Reading, split_by: Mapping[str, Any]) -> Content:
    """What a file holds, taken apart."""
    found = read_file(path, reading, Hints(beside=(*reading.beside, *map(str, names_in(split_by).values()))))
    say_decided(str(path), found.decisions)
    return with_split(_taken_apart(path, found, reading), columnar(str(path), found.x), split_by)


def _taken_apart(path: Path, found: Found, reading: Reading) -> Content:
    beside = found.labels is not None
    if (table := columnar(str(path), found.x)) is not None:
        content = from_columns(table, replace(reading, label=None) if beside else reading)
        dialect = table.dialect if isinstance(table, TextTable) else None
        content = content._replace(dialect=dialect, labels=found.labels if beside else content.labels)
    else:
        if reading.columns is not None:
            positions = _places(path, found.x, reading.columns, reading.positions)
            reading = replace(reading, columns=None, positions=positions)
        content = split_content(str(path), found.x, found.labels, None, reading, copy=False)
    content = content._replace(holder="file", decisions=found.decisions)
    return relabeled(content, str(reading.label or "label")) if beside else content


def _sequences(path: Path, reading: Reading, options: Options) -> Content:
    """The sequences of a long table in a file."""
    found = read_file(path, replace(reading, sequence=None), NONE)
    say_decided(str(path), found.decisions)
    content = sequence_content(str(path), found.x, reading, options.split_by, options.event)
    dialect = found.x.dialect if isinstance(found.x, TextTable) else None
    return content._replace(holder="file", dialect=dialect, decisions=found.decisions)


def _test_part(first: Content, path: Path, reading: Reading) -> Content:
    """What the file of a test part holds, its columns in the order of the first."""
    if first.sequence is not None:
        return sequences_to_test(first, str(path), read_file(path, reading, Hints(None, first.dialect)).x)
    label = None if reading.label is None else str(reading.label)
    names = [column.name for column in first.columns if column.is_feature] if first.named else ()
    hints = Hints(label, first.dialect, names, names_of_roles(first.columns))
    found = read_file(path, replace(reading, label=None), hints)
    content = select_columns(first.columns, first.named, str(path), found.x)
    return content if found.labels is None else content._replace(labels=found.labels)


def read_file(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """What a file holds.

    Raises:
        DataError: a file that is missing, broken, or of a kind that is not read.
    """
    if path.is_dir() and not is_zarr(path):
        return read_folder(path, reading, hints)
    suffix = next((suffix.lower() for suffix in reversed(path.suffixes) if suffix not in OPENERS), "")
    suffix = ".zarr" if path.is_dir() else suffix
    if suffix not in FORMATS:
        raise DataError(f"{path}: expected {USUAL} (or .gz, .xz of it), got {suffix or 'no'} suffix.")
    found = FORMATS[suffix](path, reading, hints)
    found = _turned(path, found) if reading.transpose and isinstance(found.x, np.ndarray) else found
    return found._replace(x=with_columns_beside(str(path), found.x, found.beside))


def _turned(path: Path, found: Found) -> Found:
    """With the rows of an array as columns."""
    if found.x.ndim != 2:
        raise DataError(f"{path}: expected a table (N, F) to transpose, got shape {found.x.shape}.")
    return found._replace(x=found.x.T)


def _text(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    table = read_text(path, reading, hints.dialect, hints.names)
    return Found(table, None, table.decisions)


FORMATS: Mapping[str, Callable[[Path, Reading, Hints], Found]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab", ".dat", ".data", ".asc"), _text),
    ".npy": read_array,
    ".npz": read_archive,
    **dict.fromkeys((".parquet", ".pq"), read_parquet),
    **dict.fromkeys((".feather", ".arrow"), read_feather),
    **dict.fromkeys((".xlsx", ".xlsm"), read_excel),
    ".h5ad": read_h5ad,
    ".mtx": read_matrix_market,
    **dict.fromkeys((".fits", ".fit", ".fts"), read_fits),
    **dict.fromkeys((".ecsv", ".vot"), read_astropy),
    ".mat": read_matlab,
    **dict.fromkeys((".zarr", ".zip"), read_zarr),
    **dict.fromkeys(OLD, refuse_old),
}
"""Suffix to what opens files of it."""
USUAL = ".csv, .tsv, .txt, .npy, .npz, .parquet, .feather, .xlsx, .h5ad, .mtx, .fits, .vot, .ecsv, .mat or .zarr"


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
