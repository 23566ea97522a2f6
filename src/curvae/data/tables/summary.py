"""What is in a table, column by column, with all that is to be mended at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data.data import Rows
from curvae.data.dialect import Decision
from curvae.data.errors import DataError
from curvae.data.formats.file_content import Found
from curvae.data.schema import Column, Schema
from curvae.data.tables.advice import proposals
from curvae.data.tables.categories import is_categorical_text
from curvae.data.tables.columnar import Columnar, MatrixColumns, columnar
from curvae.data.tables.content import left_out_places, listed_names, places_of
from curvae.data.tables.files import read_file
from curvae.data.tables.kinds import with_kinds
from curvae.data.tables.labels import missing, words
from curvae.io.reading import Reading
from curvae.typing import DataSpec


@dataclass(frozen=True)
class ColumnSummary:
    """One column of a table."""

    name: str
    kind: str
    dtype: str
    least: str
    most: str
    missing: int

    def row(self) -> tuple[str, ...]:
        """Its cells in a table of columns."""
        return self.name, self.kind, self.dtype, self.least, self.most, f"{self.missing:,}" if self.missing else ""


@dataclass(frozen=True)
class TableSummary:
    """What is in a table."""

    rows: int
    columns: tuple[ColumnSummary, ...]
    decisions: tuple[Decision, ...] = ()
    proposals: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    """What is to be mended before it can be modeled, each with its remedy."""


def summarized(path: Path, reading: Reading) -> TableSummary:
    """What is in a file.

    Raises:
        DataError: it cannot be opened, or is no table.
    """
    found = read_file(path, reading)
    table = columnar(str(path), found.x)
    if table is None and found.x.ndim > 2:
        return _of_pictures(found)
    table = _plain(path, found.x) if table is None else table
    if found.labels is not None:
        name, reading = str(reading.label or "label"), replace(reading, label=None)
    places, labeled = places_of(str(path), table.header, table.named, reading)
    ignored = left_out_places(str(path), table.header, reading)
    features = [(place, *_numbers(table, place, reading)) for place in places]
    good = [(place, x) for place, x, trouble in features if not trouble]
    known = _known(table, good, reading)
    columns = [_summary(table, place, x, known.get(place)) for place, x, _ in features]
    labels = [] if labeled is None else [_words(table.header[labeled], table.values(labeled), "label")]
    labels += [] if found.labels is None else [_words(name, found.labels, "label")]
    left_out = [_words(table.header[place], table.values(place), "ignored") for place in sorted(ignored)]
    troubles = (*[trouble for _, _, trouble in features if trouble], *_gaps(columns, reading))
    advice, rows = _advice(good, known, bool(labels)), len(features[0][1])
    return TableSummary(rows, (*columns, *labels, *left_out), found.decisions, advice, troubles)


def _of_pictures(found: Found) -> TableSummary:
    """Rows that are no rows of a table: their shape, what they hold, and labels."""
    x, shape = found.x, " x ".join(map(str, found.x.shape[1:]))
    each = ColumnSummary(shape, "pictures", str(x.dtype), f"{x.min():.6g}", f"{x.max():.6g}", 0)
    labels = [] if found.labels is None else [_words("label", found.labels, "label")]
    return TableSummary(len(x), (each, *labels), found.decisions)


def _plain(path: Path, array: NDArray[Any]) -> Columnar:
    """A plain array as a table whose columns go by their place."""
    if array.ndim != 2:
        raise DataError(
            f"{path}: expected a table (N, F), got {array.dtype} of shape {array.shape}: no columns to tell."
        )
    return MatrixColumns(str(path), array)


def _numbers(table: Columnar, place: int, reading: Reading) -> tuple[NDArray[Any], str]:
    """The numbers of a column, and what is the matter with it, "" if nothing is."""
    declared = [float(each) for each in reading.markers if _is_float(each)]
    try:
        if reading.kinds.get(table.header[place]) == "category" or _are_categories(table, place):
            told = words(table.values(place, words=True))
            return np.unique(told, return_inverse=True)[1].astype(float), ""
        x = table.numbers([place])[:, 0]
    except DataError as error:
        return table.values(place), str(error).removeprefix(f"{table.what}: ")
    x = np.where(np.isin(x, declared), np.nan, x)
    if np.isinf(x).any():
        return x, f"{int(np.isinf(x).sum())} infinite in column {table.header[place]!r}; drop or mend these rows."
    if (np.abs(x) > np.finfo(np.float32).max).any():
        most = f"{np.nanmax(np.abs(x)):.17g}"
        return x, f"values beyond float32 in column {table.header[place]!r}; rescale it, or say missing_value=[{most}]."
    return x, ""


def _are_categories(table: Columnar, place: int) -> bool:
    if table.vocabulary(place) is not None:
        return True
    return table.in_words(place) and is_categorical_text(table, place)


def _is_float(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


def _known(table: Columnar, good: Sequence[tuple[int, NDArray[Any]]], reading: Reading) -> dict[int, Column]:
    """The columns of numbers, with the kinds of their values."""
    if not good:
        return {}
    rows = _rows(good)
    columns = [_column(table, place) for place, _ in good]
    seen = with_kinds(columns, [rows], rows, DataSpec((len(good),)))
    said = {name: kind for name, kind in reading.kinds.items() if kind not in ("label", "ignored")}
    return {each.place: replace(each, kind=said.get(each.name, each.kind)) for each in seen}  # pyright: ignore


def _column(table: Columnar, place: int) -> Column:
    if not _are_categories(table, place):
        return Column(table.header[place], dtype=table.dtype(place), place=place)
    told = words(table.values(place, words=True))
    vocabulary = tuple(sorted(set(told[~missing(told)].tolist())))
    return Column(table.header[place], "category", "int64", place, vocabulary=vocabulary)


def _rows(good: Sequence[tuple[int, NDArray[Any]]]) -> Rows:
    raw = torch.from_numpy(np.stack([x for _, x in good], 1).astype(np.float64))
    mask = ~raw.isnan()
    return Rows(raw.nan_to_num(), None, None if bool(mask.all()) else mask)


def _summary(table: Columnar, place: int, x: NDArray[Any], known: Column | None) -> ColumnSummary:
    if known is None and x.dtype.kind not in "biuf":
        return _words(table.header[place], table.values(place), "words")
    if known is not None and known.kind == "category" and known.vocabulary is not None:
        return _words(table.header[place], table.values(place), "category")
    seen = x[np.isfinite(x.astype(np.float64))]
    least, most = (f"{seen.min():.6g}", f"{seen.max():.6g}") if len(seen) else ("", "")
    kind = known.kind if known is not None else "real"
    return ColumnSummary(table.header[place], kind, table.dtype(place), least, most, int(np.isnan(x).sum()))


def _words(name: str, values: NDArray[Any], kind: str) -> ColumnSummary:
    told = words(values)
    empty = missing(told)
    seen = sorted(set(told[~empty].tolist()))
    spoken = listed_names(seen[:6]) + (f", ... ({len(seen)})" if len(seen) > 6 else "")
    return ColumnSummary(name, kind, "words", spoken[:60], "", int(empty.sum()))


def _advice(good: Sequence[tuple[int, NDArray[Any]]], known: dict[int, Column], labeled: bool) -> tuple[str, ...]:
    if not good:
        return ()
    columns = [*known.values(), *([Column("label", "label", place=-1)] if labeled else [])]
    return tuple(proposals(Schema(DataSpec((len(good),)), tuple(columns)), _rows(good)))


def _gaps(columns: Sequence[ColumnSummary], reading: Reading) -> Iterator[str]:
    """What is missing, unless it is said what that means."""
    holed = [each for each in columns if each.missing]
    if holed and reading.missing != "mask" and reading.missing_value is None:
        names, count = listed_names([repr(each.name) for each in holed]), sum(each.missing for each in holed)
        yield f"{count:,} missing in {names}; say missing='mask' to leave them out."
