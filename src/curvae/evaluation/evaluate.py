"""Evaluate a run: every system by the same measures, from its folder alone, with the files written beside it."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from curvae.data import ArrayTable, Data
from curvae.evaluation import store
from curvae.evaluation.annealing import CHAINS, annealed, checked
from curvae.evaluation.baselines import fitted, scored, summarize_baselines
from curvae.evaluation.choice import PROPOSALS
from curvae.evaluation.importance import MEMORY
from curvae.evaluation.information import information
from curvae.evaluation.pictures import pictures
from curvae.evaluation.progress import bar
from curvae.evaluation.quality import quality as compared
from curvae.evaluation.results import Evaluation
from curvae.evaluation.scores import score
from curvae.evaluation.summary import finite, flagged, summarize, summarize_annealed
from curvae.evaluation.weighing import Scores
from curvae.noise import kept
from curvae.systems import System
from curvae.systems.place import place
from curvae.training.run import layout
from curvae.training.run.run_folder import RunFolder

Split = Literal["train", "validation", "test"]
KEPT = ("index", "log_likelihood", "elbo", "log_det", "status", "label", "kl", "squared_error", "size")
"""Arrays of each datum that are saved, beside those of each proposal."""
SAMPLED = ("proposal", "draws", "normalizer")
"""And these, where log p(x) was sampled."""


@runtime_checkable
class HasRun(Protocol):
    """What fit and load return: it has a run folder."""

    @property
    def run(self) -> RunFolder: ...


@kept()
def evaluate(
    run: HasRun | RunFolder | str | PathLike[str],
    samples: int = 500,
    data: Data | None = None,
    split: Split = "test",
    seed: int = 0,
    memory: int = MEMORY,
    batch_size: int = 100,
    device: str = "auto",
    limit: int | None = None,
    ais: int = 0,
    ais_data: int = 100,
    stderr: float | None = None,
    most: int = 16,
    smooth: bool = False,
    quality: bool = False,
    progress: bool = True,
) -> Evaluation:
    """Log-likelihood, ELBO, diagnostics and collapse of a run, with errors; written into its folder.

    That of the run's own test data takes the place of an earlier one; one of other data or of another split lies beside
    it, in ``evaluations/<data>-<split>-<checksum>``.

    log p(x) is taken from the density where the system has one, and else estimated by importance sampling, with draws
    from the system's own posterior and, for a model of continuous latents, from a common proposal: the Laplace
    posterior at the mode, its covariance widened by 1.3 (less beyond 16 latents); and with the same draws as those of a
    mixture of both. The headline is the common proposal's where its k-hat is at most 0.5, else that of the smallest
    k-hat. Data for which that is above 0.7 are flagged.

    Beside it stand baselines, models in closed form that were fitted to the run's training rows and are scored on the
    same rows in the same units (:func:`curvae.baselines.fit`), with the paired difference from each.

    The same arguments give the same numbers; the system and the caller's random numbers stay as they are. Latents are
    described in the axes of the run, see :class:`curvae.latents.Axes`; nothing else depends on them.

    Files: ``evaluation.json`` (the result, settings, warnings, and the digest of the weights that were evaluated),
    ``evaluation.npz`` (a value for each row) and ``pictures.npz`` (what the report draws).

    Args:
        run: what fit or load returned, a run, or the path of its folder.
        samples: draws S for each datum and proposal.
        data: other data than those of the run.
        split: "train", "validation" or "test".
        seed: of the draws.
        memory: bytes that the draws of a batch may take at a time.
        batch_size: most data inferred at a time.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1", "mps".
        limit: evaluate the first so many data only.
        ais: temperatures of annealed importance sampling, beside it; 300 are a beginning, 0 is none. Data whose weights
            spread too much in a first run get up to 16 times as many.
        ais_data: number of data, the first ones, that it is done for.
        stderr: wanted standard error of each datum's log p(x), nats; data above it, or with a k-hat above 0.7, get 2,
            4, 8 ... times the draws. Half as many again say so and are thrown away, so nothing is biased by looking;
            the files say how many each datum took.
        most: of these draws at most, in multiples of ``samples``.
        smooth: also estimate from Pareto-smoothed weights, which vary less and are no longer unbiased.
        quality: also compare samples and reconstructions with held-out data, see :func:`curvae.evaluation.quality`.
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.

    Raises:
        ValueError: an argument out of its range, a device that is not there, or ``ais`` of a system without a model
            (HasModel) or without evidence.
        RunError: the folder cannot be read or written; earlier files stay as they were.
    """
    folder = opened(run)
    where = device_for(device)
    data = folder.data() if data is None else data
    table = choose(data, split)
    (system, sha256), axes = folder.model(), folder.axes
    if ais:
        checked(system, temperatures=ais, data=ais_data)
    started = time.perf_counter()
    with moved(system, where), bar(min(limit or len(table), len(table)), progress) as report:
        scores = score(system, table, samples, seed, memory, batch_size, limit, report, stderr, most, smooth, axes)
        known = information(system, table, limit, seed, axes)
        alike = compared(system, data, split, limit, seed) if quality else None
        shown = pictures(system, table, scores, seed, axes)
        count = min(ais_data, len(scores["index"]))
        extra = _annealed(system, table, ais, count, seed, memory, progress) if ais else {}
    baselines = fitted(folder, system, data)
    beside = scored(baselines, table, scores)
    result = summarize(
        scores,
        levels(data),
        stderr,
        unit=data.transform.unit,
        samples=samples,
        split=split,
        seed=seed,
        evidence=system.evidence,
        objective=system.kind,
        seconds=time.perf_counter() - started,
        information=known,
        quality=alike,
        baselines=summarize_baselines(baselines, beside, scores),
        ais=summarize_annealed(extra, scores, ais, CHAINS) if ais else None,
    )
    settings = {"memory": memory, "batch_size": batch_size, "device": str(where), "limit": limit}
    settings |= {"stderr": stderr, "most": most, "smooth": smooth, "rotated": axes is not None}
    values = result.to_dict() | about(folder, system, data) | {"settings": settings, "weights": sha256}
    store.write(place_of(folder, data, split), values, saved(scores) | extra | beside, shown)
    return result


def place_of(run: RunFolder, data: Data, split: str) -> Path:
    """Where an evaluation lies: of the run's own test data in its folder, else in one named by what it is of."""
    same = data.checksum == run.environment["data_checksum"]
    if same and split == "test" and data.transform.fingerprint == run.transform().fingerprint:
        return run.path
    stem = Path(str(data.recipe.get("name") or data.spec.name)).name.partition(".")[0]
    name = re.sub(r"[^\w-]+", "-", stem).strip("-")[:64]
    return run.path / layout.EVALUATIONS / f"{name or 'data'}-{split}-{data.checksum[:8]}"


def _annealed(
    system: System, table: ArrayTable, temperatures: int, count: int, seed: int, memory: int, progress: bool
) -> Scores:
    with bar(count, progress) as report:
        return annealed(system, table, temperatures, count, seed=seed, memory=memory, report=report)


def opened(run: HasRun | RunFolder | str | PathLike[str]) -> RunFolder:
    """The run itself, or that of a path or of what was fitted."""
    if isinstance(run, HasRun):
        return run.run
    return run if isinstance(run, RunFolder) else RunFolder.open(Path(run))


@contextmanager
def moved(system: System, device: torch.device) -> Iterator[None]:
    """A system on another device, and back where it was afterwards."""
    home = place(system)[0]
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


def choose(data: Data, split: str) -> ArrayTable:
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
    """The arrays of each datum that go into ``evaluation.npz``, and whether its estimates are finite."""
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
