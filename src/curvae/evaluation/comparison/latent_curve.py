"""A held-out curve over the number of latents: one run for each, compared row by row on the validation part."""

import csv
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from io import StringIO
from math import isfinite, nan
from operator import index
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from curvae.evaluation import io
from curvae.evaluation.comparison.compare import training_seconds
from curvae.evaluation.comparison.tables import text
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.evaluate import evaluate, place_of
from curvae.evaluation.io import EvaluationFiles
from curvae.systems import System
from curvae.training.run import files, layout
from curvae.training.run.run_folder import RunFolder

DRAWS = 200
"""For each row and proposal."""
MOST = 100
"""Sizes; more are a slip of the hand."""
CSV, PICTURE = "latent-curve.csv", "latent-curve.png"


@dataclass(frozen=True)
class LatentCurvePoint:
    """A run with so many latents; all numbers are nats per row of the validation part, but for the last ones."""

    latent: int
    log_likelihood: float
    stderr: float
    monte_carlo: float
    """The part of ``stderr`` that more draws would lower."""
    elbo: float
    """NaN where the system has none."""
    elbo_stderr: float
    difference: float
    """To the best, over the same rows; 0 for the best itself."""
    difference_stderr: float
    """Paired by row."""
    flagged: float
    """Share of rows whose estimate is not to be trusted."""
    seconds: float
    """Training time."""
    run: str
    """Name of its folder."""


@dataclass(frozen=True)
class LatentCurve:
    """Runs that differ in the number of latents, and the smallest number that is as good as the best.

    Example:
        >>> one = LatentCurvePoint(1, -3.0, 0.1, 0.0, -3.2, 0.1, -0.5, 0.1, 0.0, 2.0, "latent-1")
        >>> two = LatentCurvePoint(2, -2.5, 0.1, 0.0, -2.7, 0.1, 0.0, 0.0, 0.0, 2.0, "latent-2")
        >>> LatentCurve((one, two), count=40).fewest
        2
    """

    sizes: tuple[LatentCurvePoint, ...]
    """In increasing order."""
    count: int
    """Rows that have a finite estimate in every run."""

    @property
    def best(self) -> int:
        """The number of latents of the highest log p(x)."""
        return max(self.sizes, key=lambda size: size.log_likelihood).latent

    @property
    def fewest(self) -> int:
        """The smallest number within one paired standard error of the best."""
        return next(size.latent for size in self.sizes if -size.difference <= size.difference_stderr)

    @property
    def chosen(self) -> int:
        """The name of ``fewest`` before."""
        warnings.warn("LatentCurve.chosen is now fewest.", DeprecationWarning, stacklevel=2)
        return self.fewest

    @property
    def sentence(self) -> str:
        """What the curve says, in words."""
        by = {size.latent: size for size in self.sizes}
        if self.fewest == self.best:
            smaller = "" if self.best == self.sizes[0].latent else "; all fewer are more than one paired error below it"
            found = f"{_many(self.best)} {_is(self.best)} best{smaller}."
        else:
            paired = Estimate(by[self.fewest].difference, by[self.fewest].difference_stderr)
            found = (
                f"{_many(self.fewest)} {_is(self.fewest)} the fewest within one paired standard error of the best, "
                f"{self.best}: {paired:+.2f} nats."
            )
        edge = len(self.sizes) > 1 and self.best == self.sizes[-1].latent
        more = f" The best is the largest that was tried: try more than {self.best}." if edge else ""
        return f"{found}{more} Chosen on {self.count:,} validation rows: evaluate that run for a number to quote."

    def to_text(self, width: int = 110) -> str:
        """The table and what it says, for a terminal."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in ("latents", "log p(x)", "ELBO", "to the best, paired", "flagged", "seconds"):
            table.add_column(name, justify="right")
        for size in self.sizes:
            table.add_row(*_cells(size))
        return text((f"{self.count:,} validation rows; nats per row ± standard error", table, self.sentence), width)

    def to_csv(self) -> str:
        """A line for each size, with every number."""
        file = StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([each.name for each in fields(LatentCurvePoint)])
        writer.writerows(["" if value != value else value for value in astuple(size)] for size in self.sizes)
        return file.getvalue()

    def write(self, folder: Path) -> Path:
        """``latent-curve.csv`` in a folder, in the place of an older one.

        Raises:
            RunError: it cannot be written.
        """
        files.write_file(folder / CSV, self.to_csv())
        return folder / CSV


def sizes_of(latent: str | Iterable[int]) -> tuple[int, ...]:
    """Numbers of latents, increasing: of ``"1:8"`` (both ends), ``"1,2,4,8"``, or of whole numbers.

    Raises:
        ValueError: anything else, one below 1, one twice, or more than 100.

    Example:
        >>> sizes_of("2:4"), sizes_of("8,1"), sizes_of(range(1, 3))
        ((2, 3, 4), (1, 8), (1, 2))
    """
    try:
        found = _numbers(latent) if isinstance(latent, str) else [index(size) for size in latent]
    except (TypeError, ValueError):
        found = []
    if not found or min(found) < 1 or len(set(found)) < len(found):
        raise ValueError(f"latent: expected 1:8 (both ends) or 1,2,4,8, each 1 or more and once; got {latent!r}.")
    if len(found) > MOST:
        raise ValueError(f"latent: expected at most {MOST} numbers of latents, got {len(found):,} of {latent!r}.")
    return tuple(sorted(found))


def _numbers(word: str) -> list[int]:
    low, colon, high = word.partition(":")
    if not colon:
        return [int(part) for part in word.split(",")]
    first, last = int(low), int(high)
    return list(range(first, min(last, first + MOST) + 1))


def require_evidence(system: System) -> None:
    """
    Raises:
        ValueError: it gives no log p(x), so that there is nothing to compare.
    """
    if system.evidence == "none":
        raise ValueError("latent: expected one number for a system that gives no log p(x) (evidence='none').")


def measure_curve(runs: Mapping[int, RunFolder], samples: int = DRAWS, progress: bool = True) -> LatentCurve:
    """Evaluate finished runs on their validation part, where that is not done yet, and compare them row by row.

    Args:
        runs: by number of latents; of the same data.
        samples: draws for each row and proposal.
        progress: show how it goes on stderr.

    Raises:
        ValueError: a system that gives no evidence; no row with a finite estimate in every run.
        RunError: a run's files cannot be read.
    """
    found = {latent: _evaluated(run, samples, progress) for latent, run in sorted(runs.items())}
    values = {latent: each.arrays["log_likelihood"] for latent, each in found.items()}
    kept = np.logical_and.reduce([np.isfinite(each) for each in values.values()])
    if not kept.any():
        raise ValueError("latent: expected rows with a finite log p(x) in every run, got none; see their reports.")
    best = max(values, key=lambda latent: float(values[latent][kept].mean()))
    sizes = [_size(latent, runs[latent], found[latent], kept, values[best]) for latent in found]
    return LatentCurve(tuple(sizes), int(kept.sum()))


def _evaluated(run: RunFolder, samples: int, progress: bool) -> EvaluationFiles:
    """The evaluation of the run's validation part with so many draws, the one that is there if it is such."""
    data = run.data()
    place = place_of(run, data, "validation")
    if (place / layout.EVALUATION).exists():
        there = io.read_evaluation(place)
        settings = there.values.get("settings", {})
        if not there.stale and there.result.samples == samples and settings.get("limit") is None:
            return there
    evaluate(run, data=data, progress=progress, samples=samples, split="validation")
    return io.read_evaluation(place)


def _size(latent: int, run: RunFolder, found: EvaluationFiles, kept: np.ndarray, best: np.ndarray) -> LatentCurvePoint:
    ours = found.arrays["log_likelihood"][kept]
    error = found.arrays.get("stderr_best")
    whole = Estimate.of(ours, None if error is None else error[kept])
    bound = Estimate.of(found.arrays["elbo"][kept]) if "elbo" in found.arrays else Estimate(nan, nan)
    paired = Estimate.of(ours - best[kept])
    flagged = float(np.mean(found.arrays["flagged"]))
    seconds = training_seconds(run.path)
    return LatentCurvePoint(
        latent,
        whole.value,
        whole.stderr,
        whole.monte_carlo,
        bound.value,
        bound.stderr,
        paired.value,
        paired.stderr,
        flagged,
        nan if seconds is None else seconds,
        run.path.name,
    )


def _cells(size: LatentCurvePoint) -> tuple[str, ...]:
    best = size.difference == 0 and size.difference_stderr == 0
    return (
        str(size.latent),
        str(Estimate(size.log_likelihood, size.stderr)),
        str(Estimate(size.elbo, size.elbo_stderr)),
        "best" if best else f"{Estimate(size.difference, size.difference_stderr):+.2f}",
        f"{size.flagged:.1%}",
        f"{size.seconds:.1f}" if isfinite(size.seconds) else "-",
    )


def _many(count: int) -> str:
    return f"{count} latent" if count == 1 else f"{count} latents"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
