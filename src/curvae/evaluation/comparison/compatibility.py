"""Whether two evaluations measured the same thing: what is not alike is not compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.results import Evaluation


class MeasuredRun(NamedTuple):
    """The evaluation of a run, read from its files."""

    name: str
    path: Path
    result: Evaluation
    values: Mapping[str, Any]
    arrays: Mapping[str, NDArray]


def check_comparable(first: MeasuredRun, other: MeasuredRun) -> None:
    """Refuse to compare what was not measured on the same data, in the same units, at the same rows.

    Raises:
        ValueError: naming the first thing that differs.
    """
    for run in (first, other):
        if "transform" not in run.values["data"]:
            raise ValueError(
                f"compare: the evaluation of {run.name} does not say how its data were transformed (an older curvae "
                f"wrote it); run `curvae evaluate {run.path}` again."
            )
    ours, theirs = (_measured_on(run) for run in (first, other))
    for what in ours:
        if ours[what] != theirs[what]:
            raise ValueError(
                f"compare: {first.name} and {other.name} differ in {what} ({ours[what]}; {theirs[what]}); evaluate "
                "them alike."
            )
    if not np.array_equal(first.arrays["index"], other.arrays["index"]):
        raise ValueError(f"compare: {first.name} and {other.name} were evaluated on different rows; do it again alike.")


def _measured_on(run: MeasuredRun) -> dict[str, Any]:
    """What must be alike, in the order in which it is named."""
    data, result = run.values["data"], run.result
    return {
        "data": f"{data['name']} {data['checksum'][:12]}",
        "support": data["support"],
        "split": result.split,
        "unit": result.unit,
        "transform": data["transform"],
        "count": result.count,
    }
