"""FITS files, VOTables and ECSV, by astropy: tables as records, images as arrays."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.data.dialect import Decision
from curvae.data.errors import DataError
from curvae.data.formats.file_content import NONE, Found, Hints
from curvae.data.formats.opening import imported, parsed, require_room
from curvae.io.reading import Reading

WIDEST = 64
"""Numbers in a cell that become columns of their own."""


def read_fits(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """A table of a FITS file, the first or that under ``key`` (its name or number); or its first image, if it has none.

    Raises:
        DataError: a broken file, no such part, or astropy is not there.
    """
    fits, table = imported(path, "astropy.io.fits", "fits"), imported(path, "astropy.table", "fits")
    with parsed(path, "a whole FITS file") as file, fits.open(file, memmap=False, ignore_missing_simple=False) as parts:
        warnings.filterwarnings("error", ".*truncated")
        kinds = list(map(_kind, parts))
        names = [part.name or str(place) for place, part in enumerate(parts)]
        place = _chosen(path, names, kinds, reading.key)
        usable = [name for name, kind in zip(names, kinds, strict=True) if kind]
        of = [Decision("part", f"{names[place]} of {', '.join(usable)}", "key='...'")] if len(usable) > 1 else []
        sizes = [parts[place].header.get(f"NAXIS{axis + 1}", 1) for axis in range(parts[place].header["NAXIS"])]
        require_room(path, int(np.prod(sizes, dtype=np.float64)), 1)
        if kinds[place] == "image":
            return Found(np.array(parts[place].data), None, tuple(of))
        found = of_astropy(table.Table.read(parts, hdu=place, format="fits"))
        return found._replace(decisions=(*of, *found.decisions))


def read_astropy(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """A VOTable or an ECSV table.

    Raises:
        DataError: a broken file, or astropy is not there.
    """
    table, kind = imported(path, "astropy.table", "fits"), "ascii.ecsv" if ".ecsv" in path.suffixes else "votable"
    with parsed(path, f"a table of astropy's ({kind})") as file:
        content = file if kind == "votable" else file.read().decode("utf-8")
        return of_astropy(table.Table.read(content, format=kind))


def of_astropy(table: Any) -> Found:
    """A table of astropy's as records, cells of several numbers as columns; and its units."""
    made = [Decision("units", ", ".join(units), "values are as in the file")] if any(units := _units(table)) else []
    records, spread = _spread(table.as_array())
    if spread:
        made.append(Decision("cells of several numbers", ", ".join(spread), "columns name.0, name.1, ..."))
    return Found(records, None, tuple(made))


def _units(table: Any) -> list[str]:
    return [str(column.unit or "") for column in table.itercols() if hasattr(column, "unit")]


def _kind(part: Any) -> str:
    return "table" if hasattr(part, "columns") else "image" if part.header.get("NAXIS", 0) else ""


def _chosen(path: Path, names: Sequence[str], kinds: Sequence[str], key: str | None) -> int:
    """Where the part is that is asked for: by name, or number from 0; else the first table, or image."""
    if key is not None:
        found = [j for j, name in enumerate(names) if kinds[j] and key in (name, str(j))]
        known = ", ".join(name for name, kind in zip(names, kinds, strict=True) if kind)
        if not found:
            raise DataError(f"{path}: expected key= as one of {known or 'none'}, got {key!r}.")
        return found[0]
    for kind in ("table", "image"):
        if kind in kinds:
            return list(kinds).index(kind)
    raise DataError(f"{path}: expected a table or an image, got a FITS file with neither; name another.")


def _spread(records: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """Records with a column for each number of cells that hold a few, and the names of these."""
    shapes = {name: records.dtype[name].shape for name in records.dtype.names or ()}
    several = [name for name, shape in shapes.items() if len(shape) == 1 and shape[0] <= WIDEST]
    if not several:
        return records, []
    columns: dict[str, NDArray[Any]] = {}
    for name in shapes:
        if name in several:
            columns |= {f"{name}.{j}": records[name][:, j] for j in range(shapes[name][0])}
        else:
            columns[name] = records[name]
    dtype = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    made: Any = np.ma.empty(len(records), dtype) if np.ma.isMaskedArray(records) else np.empty(len(records), dtype)
    for name, column in columns.items():
        made[name] = column
    return made, several
