"""One row of numbers an epoch: metrics.csv always, TensorBoard where it is installed."""

import csv
import importlib.util
import io
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from curvae.io import FileError, regular
from curvae.io.errors import parsing
from curvae.io.typed import Count, conform
from curvae.training.run import files
from curvae.training.run.layout import MEND

LIMIT = 2**28
"""Bytes of a file: a million epochs."""


class Row(NamedTuple):
    """An epoch; NaN (an empty field in the file) where a number does not exist. Bounds are means per datum, in nats."""

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


class Log:
    """Writes rows into a run folder."""

    def __init__(self, path: Path):
        self.path = path / "metrics.csv"
        self._board_path = path / "tensorboard"
        self._board: Any = None
        self._begun = False
        """Whether the file has the columns of a row."""

    def _begin(self) -> None:
        """A header; rows that an earlier version wrote under another are written anew."""
        header, there = _line(Row._fields), self.path.exists()
        if not (there and _text(self.path).startswith(header)):
            rows = zip(*read(self.path).values(), strict=True) if there else ()
            files.write(self.path, header + "".join(_line(map(_field, row)) for row in rows))
        self._begun = True

    def write(self, row: Row) -> None:
        """Add one epoch."""
        if not self._begun:
            self._begin()
        files.append(self.path, _line(_field(value) for value in row))
        self._to_board(row)

    def keep(self, epochs: int) -> None:
        """Forget what was written after that many epochs, before the run was cut off: all of it if it starts anew."""
        if not epochs:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            lines = _text(self.path).splitlines(keepends=True)
            files.write(self.path, "".join(lines[: epochs + 1]))

    def close(self) -> None:
        if self._board:  # False where there is no TensorBoard to write for
            self._board.close()
        self._board = None

    def _to_board(self, row: Row) -> None:
        if self._board is None:
            self._board = _open_board(self._board_path, row.epoch)
        for name, value in row._asdict().items():
            if self._board and name not in ("stage", "epoch", "step") and not math.isnan(value):
                self._board.add_scalar(name, value, row.epoch)


def read(path: Path) -> dict[str, list[Any]]:
    """Columns of a metrics.csv by name: text for the stage, whole numbers for counts, NaN for what is not there.

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
        return {name: [_value(name, cell) for cell in cells.get(name, [""] * len(rows))] for name in Row._fields}


def _text(path: Path) -> str:
    with files.telling(path, MEND), parsing(path, "text"):
        return regular.read(path, LIMIT).decode("utf-8")


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


def _open_board(path: Path, epoch: int) -> Any:
    """A TensorBoard writer, or False where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(path), purge_step=epoch)
