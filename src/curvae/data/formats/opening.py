"""Opening files for the libraries that parse them: regular files alone, one error, no word of theirs on the way."""

import importlib
import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from curvae.data.errors import DataError
from curvae.data.readers import OPENERS, as_data_errors, open_regular, read_bytes
from curvae.io import formats
from curvae.io.errors import parsing
from curvae.memory import require_bytes

MOST_MEMBERS = 100_000
"""Files in an archive."""


def imported(path: Path, name: str, extra: str) -> Any:
    """A library that reads files like this one.

    Raises:
        DataError: it is not installed; how it is.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        needs = name.partition(".")[0]
        raise DataError(
            f"{path}: expected {needs} to read it, got none installed; run: pip install 'curvae[{extra}]'."
        ) from None


@contextmanager
def parsed(path: Path, expected: str) -> Iterator[BinaryIO]:
    """A file, plain or compressed, open for a library to parse; whatever that raises is one line of ours.

    Raises:
        DataError: the file is missing, or not what is expected.
    """
    with (
        parsing_folder(path, expected),
        io.BytesIO(read_bytes(path)) if path.suffix in OPENERS else open_regular(path) as file,
    ):
        yield file


@contextmanager
def parsing_folder(path: Path, expected: str) -> Iterator[None]:
    """The same of what a library opens by its path.

    Raises:
        DataError: it is missing, or not what is expected.
    """
    with as_data_errors(path), parsing(path, expected, DataError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse a zip archive, as Excel's files are, whose members inflate without measure."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise DataError(f"{path}: expected at most {MOST_MEMBERS:,} files in it, got {len(members):,}.")
        formats.check_size(path, sum(each.file_size for each in members), sum(each.compress_size for each in members))
    file.seek(0)


def require_room(path: Path, values: int, size: int = 8, mend: str = "choose columns, or split the file") -> None:
    """Ask for the memory that so many values take.

    Raises:
        DataError: it is not there.
    """
    try:
        require_bytes(values * size, str(path), "values", mend)
    except ValueError as error:
        raise DataError(str(error)) from None
