"""A run folder, read: the only place of the report that knows the names of files."""

import csv
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from curvae.evaluation.calibration import NAME as CALIBRATION
from curvae.evaluation.calibration import Calibration
from curvae.evaluation.gap_results import Gaps
from curvae.evaluation.gaps import NAME as GAPS
from curvae.evaluation.results import Evaluation

Arrays = Mapping[str, np.ndarray]
Content = TypeVar("Content")
MADE_BY = {
    GAPS: "gaps",
    CALIBRATION: "calibrate",
    **dict.fromkeys(("evaluation.json", "evaluation.npz", "pictures.npz"), "evaluate"),
}
"""The command that writes a file; ``fit`` the others."""


class ReportError(ValueError):
    """A run folder that cannot be read or reported: one line saying what, where, and how to mend it."""


@dataclass(frozen=True)
class Run:
    """What the files of a run folder say; a file that is not there gives an empty mapping (``evaluation``: None)."""

    path: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    metrics: Arrays = field(default_factory=dict)
    """Column -> (rows,): floats, NaN where a cell is empty; ``stage`` is text."""
    evaluation: Evaluation | None = None
    per_datum: Arrays = field(default_factory=dict)
    pictures: Arrays = field(default_factory=dict)
    gaps: Gaps | None = None
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def system(self) -> str:
        """Name of the system, as written in the configuration."""
        system = self._part("system")
        return str(system.get("name") or system.get("custom") or "system")

    @property
    def data(self) -> str:
        """Name of the data set, as written in the configuration."""
        return str(self._part("data").get("name", "data"))

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Arguments of the system, as written in the configuration."""
        arguments = self._part("system").get("arguments")
        return arguments if isinstance(arguments, Mapping) else {}

    def _part(self, key: str) -> Mapping[str, Any]:
        part = self.config.get(key)
        return part if isinstance(part, Mapping) else {"name": part} if part is not None else {}


def read(path: str | Path) -> Run:
    """Read a run folder.

    Args:
        path: the folder; it must hold ``config.yaml``, every other file may be missing.

    Raises:
        ReportError: there is no such folder, it is not a run folder, or one of its files cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such run folder; name the folder that `curvae fit --out` wrote.")
    if not (folder / "config.yaml").is_file():
        raise ReportError(
            f"{folder}: not a run folder (no config.yaml); name the folder that `curvae fit --out` wrote."
        )
    evaluation = _made(folder / "evaluation.json", Evaluation.from_dict)
    return Run(
        path=folder.resolve(),
        config=_mapping(folder / "config.yaml", _yaml),
        environment=_mapping(folder / "environment.json", _json),
        status=_mapping(folder / "status.json", _json),
        metrics=_load(folder / "metrics.csv", _csv, {}),
        evaluation=evaluation,
        per_datum=_load(folder / "evaluation.npz", _npz, {}) if evaluation else {},
        pictures=_load(folder / "pictures.npz", _npz, {}) if evaluation else {},
        gaps=_made(folder / GAPS, Gaps.from_dict),
        calibration=_made(folder / CALIBRATION, Calibration.from_dict),
    )


def _load(file: Path, parse: Callable[[Path], Content], absent: Content) -> Content:
    """What ``parse`` makes of the file, with every way to fail turned into one line."""
    try:
        return parse(file)
    except FileNotFoundError:
        return absent
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        yaml.YAMLError,
        csv.Error,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        made_by = MADE_BY.get(file.name, "fit")
        raise ReportError(f"{file}: cannot be read ({reason}); write it again with `curvae {made_by}`.") from error


def _mapping(file: Path, parse: Callable[[Path], Any]) -> Mapping[str, Any]:
    content = _load(file, parse, {})
    if not isinstance(content, Mapping):
        raise ReportError(f"{file}: expected names and values; got {type(content).__name__}.")
    return content


def _made(file: Path, make: Callable[[Mapping[str, Any]], Content]) -> Content | None:
    """What a command found and wrote; None where it has not been given."""
    content = _mapping(file, _json)
    if not content:
        return None
    if content.get("format", 1) != 1:
        raise ReportError(
            f"{file}: format {content['format']!r} is not known here (only 1 is); update curvae, or run "
            f"`curvae {MADE_BY[file.name]}` again."
        )
    return _load(file, lambda _: make(content), None)


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _npz(file: Path) -> dict[str, np.ndarray]:
    """All arrays of the file; arrays of Python objects, which would need a pickle, are refused."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _csv(file: Path) -> dict[str, np.ndarray]:
    """Column -> values. A last line cut short, as in a run still going or killed, is left out."""
    with file.open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream)) or [[]]
    if rows and len(rows[-1]) < len(header):
        rows.pop()
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"every line must have the {len(header)} cells of the header")
    cells = {name: [row[column] for row in rows] for column, name in enumerate(header)}
    return {name: np.array(column) if name == "stage" else _floats(column) for name, column in cells.items()}


def _floats(cells: list[str]) -> np.ndarray:
    return np.array([float(cell) if cell.strip() else np.nan for cell in cells], dtype=float)
