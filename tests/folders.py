"""A run folder in tests, made without training; and its files, changed as only curvae may change them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from curvae.data import Data
from curvae.evaluation import io, read_evaluation
from curvae.systems import System
from curvae.training import RunFolder
from curvae.training.run import claim, files, weights
from curvae.training.run.run_folder import write_about
from curvae.training.run.serialization import as_json, record


def folder(path: Path, system: System, data: Data) -> RunFolder:
    """The run of a system that was trained elsewhere."""
    recorded = record(system)
    config = {"format": files.FORMAT, "curvae": "0", "system": recorded, "data": as_json(data.recipe), "training": {}}
    environment = {"data_checksum": data.checksum, "device": "cpu"}
    with claim.claimed(path, config, environment, lambda fresh: write_about(fresh, recorded, data)):
        weights.write_weights(path, weights.snapshot(system))
    return RunFolder(path, data, system)


def reseal(path: Path, change: Mapping[str, Any]) -> None:
    """Change what a sealed file says, as if curvae had written it so."""
    files.write_sealed(path, {**json.loads(path.read_text()), **change})


def rewrite(folder: Path, values: Mapping[str, Any] = {}, **arrays: NDArray | None) -> None:
    """Change an evaluation, as if it had come out so."""
    found = read_evaluation(folder)
    kept = {name: part for name, part in {**found.arrays, **arrays}.items() if part is not None}
    io.write_evaluation(folder, {**found.values, **values}, kept, found.pictures)
