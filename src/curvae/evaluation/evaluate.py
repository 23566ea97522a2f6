"""Evaluate a run: every system by the same measures, from its folder alone, with the files written beside it."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from curvae.data import ArrayTable, Data
from curvae.evaluation import io
from curvae.evaluation.estimate import Scores
from curvae.evaluation.information.clustering import Clustering
from curvae.evaluation.information.identifiability import Identifiability
from curvae.evaluation.information.information import LatentInformation
from curvae.evaluation.likelihood.baselines import Baselines
from curvae.evaluation.likelihood.estimation import finite, flagged
from curvae.evaluation.likelihood.proposal_selection import PROPOSALS
from curvae.evaluation.likelihood.scores import bar, score
from curvae.evaluation.metric import Finding, Measured, Metric, Subject
from curvae.evaluation.ood.unusual_rows import UnusualRows
from curvae.evaluation.picture_arrays import pictures
from curvae.evaluation.results import Evaluation
from curvae.evaluation.settings import Settings, with_options
from curvae.evaluation.summary import summarize
from curvae.noise import keep_random_states
from curvae.systems import System
from curvae.systems.device import device_and_dtype
from curvae.training.run import layout
from curvae.training.run.run_folder import RunFolder

KEPT = ("index", "log_likelihood", "elbo", "log_det", "status", "label", "kl", "squared_error", "size", "code_log_prob")
"""Arrays of each example that are saved, beside those of each proposal."""
SAMPLED = ("proposal", "draws", "normalizer")
"""And these, where log p(x) was sampled."""


@runtime_checkable
class HasRun(Protocol):
    """What fit and load return: it has a run folder."""

    @property
    def run(self) -> RunFolder: ...


TOLD = ("memory", "batch_size", "device", "limit", "stderr", "most", "smooth", "chains")
"""Settings that ``evaluation.json`` keeps, beside those that are part of the result."""
STANDARD: tuple[Metric, ...] = (Baselines(), LatentInformation(), Identifiability(), Clustering(), UnusualRows())
"""Metrics of every evaluation."""


@keep_random_states()
def evaluate(
    run: HasRun | RunFolder | str | PathLike[str],
    metrics: Sequence[Metric] = STANDARD,
    settings: Settings | None = None,
    data: Data | None = None,
    progress: bool = True,
    **options: Any,
) -> Evaluation:
    """Log-likelihood, ELBO, diagnostics and collapse of a run, with errors; written into its folder.

    That of the run's own test data takes the place of an earlier one; one of other data or of another split lies beside
    it, in ``evaluations/<data>-<split>-<checksum>``.

    log p(x) is taken from the density where the system has one, and else estimated by importance sampling, with draws
    from the system's own posterior and, for a model of continuous latents, from a common proposal: the Laplace
    posterior at the mode, its covariance widened by 1.3 (less beyond 16 latents); and with the same draws as those of a
    mixture of both. The headline is the common proposal's where its k-hat is at most 0.5, else that of the smallest
    k-hat. Data for which that is above 0.7 are flagged.

    Beside it stands what the metrics find. The standard ones are :class:`curvae.evaluation.Baselines`, models in closed
    form that were fitted to the run's training rows, :class:`curvae.evaluation.LatentInformation`,
    :class:`curvae.evaluation.Identifiability`, of tables :class:`curvae.evaluation.ood.UnusualRows` and, where there
    are clusters and labels, :class:`curvae.evaluation.Clustering`; others are :class:`curvae.evaluation.Annealing`,
    :class:`curvae.evaluation.SampleQuality`, and any of your own (:class:`curvae.evaluation.Metric`).

    The same arguments give the same numbers; the system and the caller's random numbers stay as they are. Latents are
    described in the axes of the run, see :class:`curvae.latents.Axes`; nothing else depends on them.

    Files: ``evaluation.json`` (the result, settings, warnings, and the digest of the weights that were evaluated),
    ``evaluation.npz`` (a value for each row) and ``pictures.npz`` (what the report draws).

    Args:
        run: what fit or load returned, a run, or the path of its folder.
        metrics: what is measured beside log p(x) and the use of the latents.
        settings: how, see :class:`curvae.evaluation.Settings`.
        data: other data than those of the run.
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.
        options: single settings by name, as ``samples=5000`` or ``limit=100``.

    Raises:
        ValueError: a setting out of its range, a device that is not there, two metrics of one name, or one that this
            system cannot have, as annealing without a model (HasModel) or without evidence.
        RunError: the folder cannot be read or written; earlier files stay as they were.
    """
    settings, folder = with_options(settings, Settings, options), run_of(run)
    where = device_for(settings.device)
    data = _held_out(folder) if data is None else data
    table = split_table(data, settings.split)
    data = replace(data, train=data.train.sample)
    (system, sha256), axes = folder.model(), folder.axes
    _check(metrics, system)
    started = time.perf_counter()
    with on_device(system, where):
        with bar(min(settings.limit or len(table), len(table)), progress) as report:
            scores = score(system, table, settings, report, axes)
        subject = Subject(folder, system, data, table, scores, settings, axes, progress)
        found = {metric.name: metric.compute(subject) for metric in metrics}
        shown = pictures(system, table, scores, settings.seed, axes)
    facts = {name: getattr(settings, name) for name in ("samples", "split", "seed")}
    facts |= {"unit": data.transform.unit, "evidence": system.evidence, "objective": system.kind}
    seconds = time.perf_counter() - started
    result = summarize(scores, levels(data), settings.stderr, seconds=seconds, **facts, **fields_of(found))
    told = {name: getattr(settings, name) for name in TOLD} | {"device": str(where), "rotated": axes is not None}
    values = result.to_dict() | about(folder, system, data) | {"settings": told, "weights": sha256}
    arrays = per_row_arrays(found, result.count)
    io.write_evaluation(place_of(folder, data, settings.split), values, saved(scores) | arrays, shown)
    return result


def _held_out(run: RunFolder) -> Data:
    """The data of a run, some of whose rows it was not trained on.

    Raises:
        ValueError: it was trained on all of them.
    """
    data = run.data()
    if not data.held_out:
        mend = f"evaluate {run.config.get('refit', {}).get('run', 'the run before it')}, or other data"
        raise ValueError(f"{run.path}: expected held-out rows, got a run that was refit on all its rows; {mend}.")
    return data


def fields_of(found: Mapping[str, Measured]) -> dict[str, Any]:
    """What metrics found, as fields of an evaluation: its own ones by name, the others together as ``metrics``, but for
    those that found nothing.

    Raises:
        TypeError: a metric of another name found anything but a :class:`Finding`.
    """
    own = {each.name for each in fields(Evaluation)} - {"metrics"}
    values = {name: measured.value for name, measured in found.items()}
    others = {name: value for name, value in values.items() if name not in own and value is not None}
    for name, value in others.items():
        if not isinstance(value, Finding):
            raise TypeError(f"evaluate: metric {name!r}: expected a Finding, got {type(value).__name__}.")
    return {name: value for name, value in values.items() if name in own} | {"metrics": others}


def per_row_arrays(found: Mapping[str, Measured], count: int) -> dict[str, NDArray]:
    """What metrics have of each row; annealing (``_ais``) of fewer rows.

    Raises:
        ValueError: not one value a row.
    """
    for metric, measured in found.items():
        for name, part in measured.arrays.items():
            if not name.endswith("_ais") and np.shape(part) != (count,):
                got = f"shape {np.shape(part)}"
                raise ValueError(
                    f"evaluate: metric {metric!r}: {name}: expected {count:,} values, one a row, got {got}."
                )
    return {name: part for measured in found.values() for name, part in measured.arrays.items()}


def _check(metrics: Sequence[Metric], system: System) -> None:
    names = [metric.name for metric in metrics]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"evaluate: expected each metric once, got {min(twice)!r} twice.")
    for metric in metrics:
        metric.check(system)


def place_of(run: RunFolder, data: Data, split: str) -> Path:
    """Where an evaluation lies: of the run's own test data in its folder, else in one named by what it is of."""
    same = data.checksum == run.environment["data_checksum"]
    if same and split == "test" and data.transform.fingerprint == run.transform().fingerprint:
        return run.path
    stem = Path(str(data.recipe.get("name") or data.spec.name)).name.partition(".")[0]
    name = re.sub(r"[^\w-]+", "-", stem).strip("-")[:64]
    return run.path / layout.EVALUATIONS / f"{name or 'data'}-{split}-{data.checksum[:8]}"


def run_of(run: HasRun | RunFolder | str | PathLike[str]) -> RunFolder:
    """The run itself, or that of a path or of what was fitted."""
    if isinstance(run, HasRun):
        return run.run
    return run if isinstance(run, RunFolder) else RunFolder.open(Path(run))


@contextmanager
def on_device(system: System, device: torch.device) -> Iterator[None]:
    """A system on another device, and back where it was afterwards."""
    home = device_and_dtype(system)[0]
    system.to(device)
    try:
        yield
    finally:
        system.to(home)


def device_for(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: it is unknown, or not there.

    Example:
        >>> device_for("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: {name!r} is not usable ({reason}); pass 'auto' or 'cpu'.") from None


def split_table(data: Data, split: str) -> ArrayTable:
    """The table of that name.

    Raises:
        ValueError: no such split.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split: expected 'train', 'validation' or 'test'; got {split!r}.")
    return getattr(data, split)


def levels(data: Data) -> float | None:
    """Grey levels within 1 of the unit of a picture's density, 1 for discrete data; None: bits mean nothing."""
    if data.spec.support != "real":
        return 1.0
    return None if data.transform.peak is None else data.transform.levels_per_unit


def saved(scores: Scores) -> Scores:
    """The arrays of each example that go into ``evaluation.npz``, and whether its estimates are finite."""
    sources = tuple(f"_{name}" for name in ("best", "smoothed", *PROPOSALS))
    ours = {name: values for name, values in scores.items() if name in KEPT + SAMPLED or name.endswith(sources)}
    return ours | {"finite": finite(scores), "flagged": flagged(scores)}


def about(run: RunFolder, system: System, data: Data) -> dict[str, Any]:
    """What was evaluated: enough for a comparison to know whether two evaluations can be compared."""
    return {
        "name": Path(run.path).name,
        "system": None if system.recipe is None else system.recipe.name,
        "parameters": sum(math.prod(p.shape) for p in system.parameters()),
        "data": {
            "name": data.spec.name,
            "checksum": data.checksum,
            "support": data.spec.support,
            "transform": data.transform.fingerprint,
        },
    }
