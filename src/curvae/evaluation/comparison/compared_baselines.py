"""The baselines of several runs, each once: what evaluations say of them, side by side."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.comparison.compatibility import MeasuredRun
from curvae.evaluation.estimate import Estimate


class Beside(NamedTuple):
    """A baseline of one run or more."""

    name: str
    label: str
    log_likelihood: Estimate
    values: NDArray
    """Log p(x) of each example."""
    runs: tuple[str, ...]
    """Names of the runs whose baseline it is."""


def baselines_of(found: Sequence[MeasuredRun]) -> tuple[Beside, ...]:
    """All baselines of runs on the same rows; those that agree on every row are one.

    Others of the same name (of runs that were trained on other rows, or have another floor of the noise) say in
    brackets whose they are.
    """
    kept: list[Beside] = []
    for new in (each for run in found for each in _of(run)):
        alike = next((i for i, old in enumerate(kept) if old.label == new.label and _agree(old, new)), None)
        if alike is None:
            kept.append(new)
        else:
            kept[alike] = kept[alike]._replace(runs=kept[alike].runs + new.runs)
    labels = [each.label for each in kept]
    return tuple(
        each._replace(name=f"{each.label} ({', '.join(each.runs)})") if labels.count(each.label) > 1 else each
        for each in kept
    )


def notes_on_baselines(found: Sequence[MeasuredRun]) -> list[str]:
    """Baselines that are left out, and runs that have none; what is said of several runs is said once."""
    said: dict[str, list[str]] = {}
    for run in found:
        for text in _notes(run):
            said.setdefault(text, []).append(run.name)
    return [f"{', '.join(runs)}: {text}" for text, runs in said.items()]


def _of(run: MeasuredRun) -> Iterator[Beside]:
    for each in run.result.baselines or ():
        if each.log_likelihood is not None:
            yield Beside(each.label, each.label, each.log_likelihood, run.arrays[each.array], (run.name,))


def _notes(run: MeasuredRun) -> Iterator[str]:
    if run.result.baselines is None:
        yield f"no baselines: an older curvae evaluated it; run `curvae evaluate {run.path}` again."
    for each in run.result.baselines or ():
        if each.note:
            yield f"{each.label}: {each.note}."


def _agree(one: Beside, other: Beside) -> bool:
    return np.allclose(one.values, other.values, rtol=1e-6, atol=1e-6, equal_nan=True)
