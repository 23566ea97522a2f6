"""Excel's files: a sheet as a text table, so that titles, units, totals and several rows of names are found alike."""

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from curvae.data.dialect import Decision
from curvae.data.errors import DataError
from curvae.data.formats.file_content import NONE, Found, Hints
from curvae.data.formats.opening import check_archive, imported, parsed, require_room
from curvae.data.text.encoding import Utf8
from curvae.data.text.table import text_table
from curvae.io.reading import Reading

OLD = {".xls": "Excel 97", ".ods": "OpenDocument", ".xlsb": "a binary Excel file"}
OF_TEXT = ("letters", "between cells", "decimals")
"""Decisions that a file of cells does not ask for."""
ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A")
Row = Sequence[Any]


class Sheet(NamedTuple):
    """The cells of a sheet, without empty rows and columns around them."""

    name: str
    rows: list[Row]
    others: list[str]
    """Names of the other sheets that have cells."""


def read_excel(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """A sheet of an Excel file, the first with cells or that under ``key``.

    Raises:
        DataError: a broken file, no such sheet, formulas that were never computed, or openpyxl is not there.
    """
    openpyxl = imported(path, "openpyxl", "excel")
    with parsed(path, "an Excel file (.xlsx)") as file:
        check_archive(path, file)
        sheet = _sheet(path, openpyxl.load_workbook(file, read_only=True, data_only=True), reading.key)
        if any(cell is None for row in sheet.rows for cell in row):
            books = [openpyxl.load_workbook(file, read_only=True, data_only=only) for only in (True, False)]
            _check_formulas(path, sheet.name, *books)
    cells = [cell for row in sheet.rows for cell in row]
    errors = sorted({cell for cell in cells if isinstance(cell, str) and cell in ERRORS})
    numbers = any(isinstance(cell, int | float) for cell in cells)
    said = replace(reading, decimal="." if numbers and reading.decimal is None else reading.decimal)
    table = text_table(Utf8(path, "", _written(sheet.rows, errors), 0, ","), said, hints.dialect, hints.names)
    made = [each for each in table.decisions if each.what not in OF_TEXT]
    if sheet.others:
        made.insert(0, Decision("sheet", f"{sheet.name}; there are also {', '.join(sheet.others)}", "key='...'"))
    if errors:
        made.append(Decision("taken for missing", ", ".join(errors), "mend the cells"))
    return Found(table, None, tuple(made))


def refuse_old(path: Path, reading: Reading, hints: Hints = NONE) -> Found:
    """
    Raises:
        DataError: always: an older or another kind of spreadsheet.
    """
    kind = next(OLD[suffix] for suffix in path.suffixes if suffix in OLD)
    raise DataError(f"{path}: expected .xlsx, got {kind}; save it as .xlsx or .csv.")


def _sheet(path: Path, book: Any, key: str | None) -> Sheet:
    names = [sheet.title for sheet in book.worksheets]
    if key is not None and key not in names:
        raise DataError(f"{path}: expected key= as one of {', '.join(names)}, got {key!r}.")
    found: Sheet | None = None
    others = []
    for sheet in book.worksheets:
        if found is None and key in (None, sheet.title):
            rows = _trimmed(path, sheet)
            if rows or key is not None:
                found = Sheet(sheet.title, rows, others)
        elif any(cell is not None for row in sheet.iter_rows(max_row=50, values_only=True) for cell in row):
            others.append(sheet.title)
    if found is None or not found.rows:
        raise DataError(f"{path}: expected a sheet with cells, got none{f' in {key!r}' if key else ''}.")
    return found


def _trimmed(path: Path, sheet: Any) -> list[Row]:
    """The rows up to the last one with cells, as wide as the widest of them; lines of a text then are rows of it."""
    require_room(path, (sheet.max_row or 0) * (sheet.max_column or 0), 1)
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    while rows and not any(map(_there, rows[-1])):
        rows.pop()
    places = [j for row in rows for j, cell in enumerate(row) if _there(cell)]
    first, last = min(places, default=0), max(places, default=-1) + 1
    return [[*row[first:last], *[None] * (last - first - len(row[first:last]))] for row in rows]


def _there(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""


def _check_formulas(path: Path, name: str, values: Any, formulas: Any) -> None:
    """Refuse a sheet with formulas none of which has a value: a program that is no spreadsheet has written it."""
    rows = zip(values[name].iter_rows(), formulas[name].iter_rows(), strict=False)
    pairs = ((value.value, cell) for known, row in rows for value, cell in zip(known, row, strict=False))
    found = [(value, cell.coordinate) for value, cell in pairs if getattr(cell, "data_type", None) == "f"]
    if found and all(value is None for value, _ in found):
        got = f"a formula in {found[0][1]} of sheet {name!r} that was never computed"
        raise DataError(f"{path}: expected values, got {got}; open it in a spreadsheet, and save it.")


def _written(rows: Iterable[Row], errors: Sequence[str]) -> bytes:
    """Rows as text: values to their last digit, dates as ISO has them."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(_cells(rows, errors))
    return stream.getvalue().encode()


def _cells(rows: Iterable[Row], errors: Sequence[str]) -> Iterator[list[str]]:
    for row in rows:
        yield ["" if cell is None or cell in errors else _text(cell) for cell in row]


def _text(cell: Any) -> str:
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return repr(cell) if isinstance(cell, float) else " ".join(str(cell).split())
