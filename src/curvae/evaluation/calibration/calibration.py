"""Is the posterior right? Simulation-based calibration, and the coverage of intervals.

Data drawn from the model come with the latents that made them, which must look like one more draw from the posterior.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.argument_checks import check_counts
from curvae.evaluation.calibration.bands import rank_p_value
from curvae.evaluation.calibration.row_checks import RowChecks
from curvae.evaluation.calibration.tarp import ReferenceMap, reference_map
from curvae.evaluation.draws import equally_weighted, in_parts, seeded_evaluation
from curvae.evaluation.estimate import Estimate, to_plain_json
from curvae.evaluation.formatting import format_number, format_p_value
from curvae.evaluation.metric import Picture, Section
from curvae.io.typed import Count, Range, Share, conform
from curvae.model import require_continuous, require_unconditional
from curvae.systems import HasModel, Parts, System, require
from curvae.typing import Batch

TITLE = "Is the posterior right?"
PASSES = 0.01
"""P-value of all ranks below which the posterior is said to be wrong."""
MOST = 10**7
"""Data that a file may tell of."""


@dataclass(frozen=True)
class Calibration:
    """How often what is true lies where the posterior says, over N data that the model made.

    If q is the posterior, the rank of the true value of any function of (x, z) among its values at L draws from q is
    uniform over 0 .. L. Ranks that pile up at both ends: q is too narrow; in the middle: too wide; at one end: biased.
    """

    ranks: Int[NDArray[Any], "N Q"]
    """Of the true value among the draws, for each quantity."""
    names: tuple[str, ...]
    """The Q quantities: each latent; the distance of z from a random point, and log p(x, z), which see all of them."""
    draws: int
    """L."""
    p_values: tuple[float, ...]
    """Of uniform ranks, exact, one for each quantity."""
    coverage: Mapping[float, Estimate] = field(default_factory=dict)
    """By level, the share of latents that lie in ``posterior.interval(level)``."""
    given: RowChecks | None = None
    """Of rows that are not the model's own."""

    @property
    def p_value(self) -> float:
        """Of all quantities together, after Bonferroni: how often an exact posterior looks as bad."""
        return min(1.0, len(self.p_values) * min(self.p_values))

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has; the ranks as how often each came, for each quantity."""
        counts = {
            name: np.bincount(r, minlength=self.draws + 1) for name, r in zip(self.names, self.ranks.T, strict=True)
        }
        values = {name: value for name, value in asdict(self).items() if name not in ("ranks", "coverage")}
        return to_plain_json(
            values
            | {"count": len(self.ranks), "p_value": self.p_value}
            | {"coverage": {str(level): asdict(found) for level, found in self.coverage.items()}}
            | {"ranks": {name: count.tolist() for name, count in counts.items()}}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of :meth:`to_dict`, but for the order of the data."""
        found = conform(values, _Stored)
        names, counts = found["names"], [found["ranks"].get(name, []) for name in found["names"]]
        sums = {sum(count) for count in counts}
        if len(sums) != 1 or {len(count) for count in counts} != {found["draws"] + 1} or max(sums) > MOST or 0 in sums:
            raise ValueError("ranks: expected as many of each quantity, one count for each of 0 .. draws")
        if len(found["p_values"]) != len(names) or not all(0 < float(level) < 1 for level in found["coverage"]):
            raise ValueError("p_values and coverage: expected one of each quantity, and levels between 0 and 1")
        ranks = [np.repeat(np.arange(found["draws"] + 1), count) for count in counts]
        coverage = {float(level): each for level, each in found["coverage"].items()}
        return cls(np.stack(ranks, 1), names, found["draws"], found["p_values"], coverage, found.get("given"))

    @property
    def seen(self) -> bool:
        """Whether something is seen against the posterior: an exact one looks as bad once in a hundred times."""
        return self.p_value < PASSES

    @property
    def verdict(self) -> str:
        """In words."""
        bad = "The posterior is not right: an exact one looks as bad less than once in a hundred times."
        said = bad if self.seen else "Nothing is seen against the posterior."
        beside = "" if self.given is None else f"\n{self.given.verdict}"
        return f"All ranks together: p = {self.p_value:.2g}. {said}{beside}"

    def rows(self) -> Iterator[tuple[str, str]]:
        """Of the printed table."""
        for name, p in zip(self.names, self.p_values, strict=True):
            yield f"ranks of {name}", f"p = {p:.2g}"
        for level, share in self.coverage.items():
            yield f"intervals of {level:.0%}", f"hold {Estimate(100 * share.value, 100 * share.stderr):.1f} %"
        yield from () if self.given is None else self.given.rows()

    def section(self) -> Section:
        """Its part of the report."""
        told = format_p_value(self.p_value)
        text = (
            f"{len(self.ranks):,} data were drawn from the model itself, with the latents that made them, and each was "
            f"given its posterior. If that is right, the true value ranks evenly among {self.draws} draws from it: "
        )
        bad = f"it does not ({told}): an exact one looks as bad less than once in a hundred times."
        text += bad if self.seen else f"nothing is seen against it ({told})."
        if self.coverage:
            level, share = max(self.coverage.items())
            held = format_number(100 * share.value, 100 * share.stderr)
            text += f" Intervals of {level:.0%} hold {held} % of the latents."
        return Section("calibration", TITLE, note=text if self.given is None else f"{text} {self.given.verdict}")

    def picture(self) -> Picture:
        """The figure of that part."""
        from curvae.evaluation.calibration.figure import rank_figure

        caption = (
            "Left: the ranks’ distribution less the even one; curves within the gray band are those of exact "
            "posteriors. A rise on the left with a fall on the right means posteriors too narrow, the reverse too "
            "wide, a curve to one side a bias; log p(x, z) and the distance from random points see all latents at "
            "once. Right: how often intervals hold the truth."
        )
        alt = "Distribution of the ranks of true latents among posterior draws, and coverage of intervals."
        return Picture(lambda: rank_figure(self, 7.5), alt, caption)

    def figure(self, path: str | PathLike[str]) -> Path:
        """Draw the ranks' distribution less the uniform one, and the coverage, as PNG, SVG or PDF by the file's name.

        Raises:
            ValueError: matplotlib does not know the format.
        """
        from curvae.evaluation.calibration.figure import rank_figure
        from curvae.evaluation.figures import save

        return save(rank_figure(self), path)


class _Stored(TypedDict):
    """What :meth:`Calibration.to_dict` gives."""

    names: tuple[str, ...]
    draws: Annotated[int, Range(1, 10**6)]
    p_values: tuple[Share, ...]
    coverage: dict[str, Estimate]
    ranks: dict[str, list[Count]]
    given: NotRequired[RowChecks | None]


class _Truth(NamedTuple):
    """What one batch says: ranks (B, Q), and by level whether each latent is in its interval (B, D)."""

    ranks: Int[Tensor, "B Q"]
    inside: dict[float, Tensor]


def calibrate(
    system: System,
    count: int = 1000,
    draws: int = 99,
    seed: int = 0,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    batch_size: int = 100,
) -> Calibration:
    r"""Simulation-based calibration of a system's posterior on data drawn from its model.

    ``z ~ p(z), x ~ p(x | z), z_1 .. z_L ~ q(z | x)``; the rank of ``f(x, z)`` among ``f(x, z_l)`` is uniform over
    0 .. L if ``q = p(z | x)``, for f each latent, the distance of z from a random point that depends on x (TARP), and
    log p(x, z). Draws of unequal weight (a mixture's) are drawn again by their weights first.

    This tests q where the *model* puts data. A model that fits badly makes data unlike the real ones, on which its
    encoder was never trained, and the test says so, rightly.

    Args:
        system: with a model of continuous latents.
        count: N, data drawn.
        draws: L for each of them.
        seed: of everything drawn.
        levels: of the intervals whose coverage is measured.
        batch_size: data at a time.

    Raises:
        ValueError: a system without a model (HasModel) of continuous latents, a count below 1, a level outside (0, 1).

    ReferenceMap: Talts, Betancourt, Simpson, Vehtari and Gelman, *Validating Bayesian inference algorithms with
    simulation-based calibration*, 2018; the test is that of :mod:`curvae.evaluation.calibration.bands`, the distance
    that of :mod:`curvae.evaluation.calibration.tarp`.

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = calibrate(vae(data.spec, latent=2, hidden=8), count=200, draws=19)
        >>> found.names, found.ranks.shape, 0 <= found.p_value <= 1
        (('z1', 'z2', 'distance', 'log p(x, z)'), (200, 4), True)
    """
    _check(count, draws, levels, batch_size)
    parts = require(system, HasModel, "calibrate").parts()
    require_continuous(parts.model, "calibrate")
    require_unconditional(parts.model, "calibrate")
    with seeded_evaluation(system, seed) as generator:
        points = reference_map(parts.model, generator)
        found = [_truth(parts, n, draws, levels, points, generator) for n in in_parts(count, batch_size)]
    ranks = torch.cat([part.ranks for part in found]).numpy()
    names = (*(f"z{d + 1}" for d in range(ranks.shape[1] - 2)), "distance", "log p(x, z)")
    inside = {level: torch.cat([part.inside[level] for part in found]) for level in levels}
    coverage = {level: Estimate.of(hit.double().mean(1).numpy()) for level, hit in inside.items()}
    return Calibration(ranks, names, draws, tuple(rank_p_value(column, draws) for column in ranks.T), coverage)


def _truth(
    parts: Parts, n: int, draws: int, levels: Sequence[float], points: ReferenceMap, generator: Generator
) -> _Truth:
    x, z = parts.model.sample(n, generator)
    posterior = parts.infer(Batch.of(x)).posterior
    guesses = equally_weighted(posterior, draws, generator)
    joint = [points.distance(x, guesses) < points.distance(x, z)]
    joint += [parts.model.log_joint(x, guesses) < parts.model.log_joint(x, z)]
    below = torch.cat([guesses < z, torch.stack(joint, -1)], -1)
    intervals = {level: posterior.interval(level) for level in levels}
    inside = {level: ((low <= z) & (z <= high)).cpu() for level, (low, high) in intervals.items()}
    return _Truth(below.sum(0).cpu(), inside)


def _check(count: int, draws: int, levels: Sequence[float], batch_size: int) -> None:
    check_counts("calibrate", count=count, draws=draws, batch_size=batch_size)
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"calibrate: levels are probabilities between 0 and 1; got {list(levels)}.")
