"""One row of numbers an epoch, in metrics.csv: what resume, the report and the verdicts read."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from curvae.io import FileError, regular
from curvae.io.errors import parsing
from curvae.io.typed import Count, conform
from curvae.training.run import files
from curvae.training.run.layout import MEND
from curvae.typing import EMPTY

LIMIT = 2**28
"""Bytes of a file: a million epochs."""


class Row(NamedTuple):
    """An epoch; NaN (an empty field in the file) where there is no number. Bounds are means over examples, nats."""

    stage: str
    epoch: int = 0
    """Epochs finished, over all stages, from 1."""
    step: int = 0
    seconds: float = 0.0
    """Training time so far, of all processes that worked at the run one after the other."""
    train_bound: float = math.nan
    validation_bound: float = math.nan
    validation_surrogate: float = math.nan
    grad_norm: float = math.nan
    """Mean over the steps, of the gradient of all trained parameters."""
    not_ok: float = math.nan
    """Share of the training data whose inference status was not ok."""
    skipped: int = 0
    """Steps of this epoch that were skipped as not finite."""
    kl: float = math.nan
    """Training mean."""
    info: Mapping[str, float] = EMPTY
    """Training means of what else ``Bound.info`` holds, each a column of its own."""

    def cells(self) -> dict[str, Any]:
        """Values by column; an entry of ``info`` that has the name of another column is ``info_<name>``.

        >>> Row("train", kl=0.5, info={"acceptance": 0.8, "step": 0.1}).cells()["info_step"]
        0.1
        """
        own = self._asdict()
        more = own.pop("info")
        return own | {f"info_{name}" if name in own else name: value for name, value in more.items()}


COLUMNS = Row._fields[:-1]
"""Those that every file has, in this order; others follow as they first appear."""


class MetricsWriter:
    """Writes rows into a run folder."""

    def __init__(self, path: Path):
        self.path = path / "metrics.csv"
        self._columns: list[str] = []
        """Of the file; empty before it has been looked at."""

    def write(self, row: Row) -> None:
        """Add one epoch."""
        cells = row.cells()
        if not cells.keys() <= set(self._columns):
            self._widen(cells)
        files.append_line(self.path, _line(_field(cells.get(name, math.nan)) for name in self._columns))

    def _widen(self, names: Iterable[str]) -> None:
        """A header with these names too; rows that were written under another are written anew."""
        there = read_metrics(self.path) if self.path.exists() else {}
        self._columns = list(dict.fromkeys([*there, *names]))
        header = _line(self._columns)
        if not (there and _text(self.path).startswith(header)):
            empty = [math.nan] * len(there.get("epoch", ()))
            rows = zip(*(there.get(name, empty) for name in self._columns), strict=True)
            files.write_file(self.path, header + "".join(_line(map(_field, row)) for row in rows))

    def keep(self, epochs: int) -> None:
        """Forget what was written after that many epochs, before the run was cut off: all of it if it starts anew."""
        if not epochs:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            lines = _text(self.path).splitlines(keepends=True)
            files.write_file(self.path, "".join(lines[: epochs + 1]))


def read_metrics(path: Path) -> dict[str, list[Any]]:
    """Columns of a metrics.csv by name: text for the stage, whole numbers for counts, NaN for what is not there.

    Those of :class:`Row` come first, whatever the file has, then its others.

    A last line cut short, as in a run that goes on or was killed, is left out.

    Raises:
        RunError: there is no such file, or it is damaged.
    """
    text = _text(path)
    with files.telling(path, MEND), parsing(path, "a row of numbers an epoch"):
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
        if rows and (len(rows[-1]) < len(header) or not text.endswith("\n")):
            rows.pop()
        if "epoch" not in header or any(len(row) != len(header) for row in rows):
            raise FileError(f"{path}: expected the {len(header)} cells of its header in every line")
        cells = dict(zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True))
        names = dict.fromkeys([*COLUMNS, *header])
        return {name: [_value(name, cell) for cell in cells.get(name, [""] * len(rows))] for name in names}


def _text(path: Path) -> str:
    with files.telling(path, MEND), parsing(path, "text"):
        return regular.read_regular(path, LIMIT).decode("utf-8")


def _value(name: str, text: str) -> Any:
    if name == "stage":
        return text
    if name not in ("epoch", "step", "skipped"):
        return float(text) if text else math.nan
    return conform(int(text or 0), Count, name)


def _line(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _field(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.9g}"
