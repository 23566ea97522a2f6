"""A run folder as the report sees it: read once, so that the page is of one moment while training goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curvae.data import Schema
from curvae.data.schema import Column
from curvae.evaluation import io
from curvae.evaluation.calibration.calibration import Calibration
from curvae.evaluation.gaps.results import Gaps
from curvae.evaluation.ood.unknown_results import UnknownInputs
from curvae.evaluation.results import Evaluation
from curvae.latents import Axes
from curvae.training.run import latent_axes, layout
from curvae.training.run.run_folder import RunFolder

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Snapshot:
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
    unknown: UnknownInputs | None = None
    axes: Axes | str | None = None
    """Of the latents, where they are not those of training; or why they are."""
    restarts: Mapping[int, float] = field(default_factory=dict)
    """The best validation bound of each start by its seed, where there were several."""
    features: tuple[Column, ...] = ()
    """Of a table the columns that the model sees."""
    characters: tuple[str, ...] | None = None
    """Of rows of characters, what their codes stand for."""
    label: Column | None = None
    """What labels are called, and their words."""
    stale: tuple[str, ...] = ()
    """Commands whose findings are left out: they are of other weights than the run has now."""
    unsure: tuple[str, ...] = ()
    """Commands whose findings do not say of which weights they are."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def system(self) -> str:
        """Name of the system, as written in the configuration."""
        system = self.config["system"]
        return system.get("name") or system.get("custom") or "system"

    @property
    def data(self) -> str:
        """Name of the data set, as written in the configuration."""
        return str(self.config["data"].get("name", "data"))

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Arguments of the system, as written in the configuration."""
        return self.config["system"].get("arguments", {})

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the model sees."""
        return tuple(column.name for column in self.features)

    def missing(self, command: str) -> str:
        """Why there is nothing that this command finds, and how to get it."""
        words = f"curvae {command} {self.name}{layout.BESIDE.get(command, '')}"
        if command in self.stale:
            return f"stale: it is of other weights than the run has now; run `{words}` again."
        return f"run `{words}` and write the report again."


def read_snapshot(path: str | Path) -> Snapshot:
    """Read a run folder.

    Args:
        path: the folder; it must hold ``config.yaml``, every other file may be missing.

    Raises:
        RunError: there is no such folder, it is not a run folder, or one of its files cannot be read.
    """
    run = RunFolder.open(path)
    evaluated = run.evaluation
    found: dict[str, tuple[Any, bool | None]] = {"evaluate": (evaluated, evaluated and evaluated.stale)}
    found["gaps"] = _found(run, layout.GAPS, Gaps.from_dict)
    found["calibrate"] = _found(run, layout.CALIBRATION, Calibration.from_dict)
    found["ood"] = _found(run, layout.OOD, UnknownInputs.from_dict)
    current = {command: None if stale else value for command, (value, stale) in found.items()}
    shown, schema = current["evaluate"], run.schema if _has(run, layout.SCHEMA) else None
    return Snapshot(
        path=run.path.resolve(),
        config=run.config,
        environment=run.environment if _has(run, layout.ENVIRONMENT) else {},
        status=run.status if _has(run, layout.STATUS) else {},
        metrics=_columns(run) if _has(run, layout.METRICS) else {},
        evaluation=shown and shown.result,
        per_datum=shown.arrays if shown else {},
        pictures=_in_words(shown.pictures, schema) if shown else {},
        gaps=current["gaps"],
        calibration=current["calibrate"],
        unknown=current["ood"],
        restarts=run.restarts,
        axes=latent_axes.read_axes(run.path),
        features=schema.features if schema and schema.is_table else (),
        characters=schema and schema.characters,
        label=schema and schema.label,
        stale=tuple(command for command, (_, stale) in found.items() if stale),
        unsure=tuple(command for command, (value, stale) in found.items() if value is not None and stale is None),
    )


def _in_words(arrays: Arrays, schema: Schema | None) -> Arrays:
    """With labels in words, where these are known."""
    words = schema and schema.vocabulary
    if words is None or "labels" not in arrays:
        return arrays
    codes = arrays["labels"].astype(int)
    return {**arrays, "labels": np.array([*words, "none"])[np.where((codes >= 0) & (codes < len(words)), codes, -1)]}


def _has(run: RunFolder, name: str) -> bool:
    return (run.path / name).exists()


def _found(run: RunFolder, name: str, make: Callable[[Mapping[str, Any]], Any]) -> tuple[Any, bool | None]:
    return io.read_findings(run.path, name, make) if _has(run, name) else (None, None)


def _columns(run: RunFolder) -> dict[str, np.ndarray]:
    return {name: np.array(column, dtype=None if name == "stage" else float) for name, column in run.metrics().items()}
