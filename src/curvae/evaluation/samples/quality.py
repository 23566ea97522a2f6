"""Are samples like data? Precision and recall of manifolds and a kernel distance, between a best and a bad case."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.data import ArrayTable, Data
from curvae.evaluation.draws import in_parts, seeded_evaluation
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.formatting import format_estimate
from curvae.evaluation.information.posterior_summary import reconstruct_observed
from curvae.evaluation.metric import Measured, Section, Subject
from curvae.evaluation.samples.features import fit_features
from curvae.io.typed import Count, OneOf
from curvae.likelihoods import Categorical
from curvae.systems import CanReconstruct, CanSample, HasModel, System
from curvae.systems.device import batch_to_system

SHARES = ("precision", "recall", "density", "coverage")
TITLE = "Are samples like data?"
HEADER = ("Set", "Precision", "Recall", "Density", "Coverage", "Kernel distance")
KINDS = {
    "train": "training data (best case)",
    "samples": "draws of the model",
    "means": "their means",
    "reconstructions": "reconstructions",
    "noise": "matched Gaussian (bad case)",
}
"""What is compared with held-out data, in words; the first and the last are the controls."""
COUNT = 1000
"""Most data of a kind."""
FEWEST = 20
NEIGHBORS = 5


@dataclass(frozen=True)
class Likeness:
    """How like held-out data a set of N others is; shares have standard errors of about ``sqrt(p (1 - p) / N)``."""

    precision: float
    """Share of the set that lies where held-out data are."""
    recall: float
    """Share of held-out data that lie where the set is."""
    density: float
    """How often held-out data surround one of the set, 1 for equal distributions; outliers weigh less."""
    coverage: float
    """Share of held-out data with one of the set near."""
    kernel: Estimate
    """Kernel distance, unbiased: 0 on average for equal distributions."""

    @property
    def shares(self) -> tuple[str, ...]:
        """All but the last, as they are printed."""
        return tuple(f"{getattr(self, name):.2f}" for name in SHARES)


@dataclass(frozen=True)
class Quality:
    """Samples and reconstructions against held-out data, between a best and a bad case."""

    rows: Mapping[Annotated[str, OneOf(KINDS)], Likeness] = field(default_factory=dict)
    """``train``, ``samples``, ``means``, ``reconstructions``, ``noise``; names that do not apply are missing."""
    features: str = ""
    """Of what distances are taken."""
    count: Count = 0
    """N."""
    neighbors: Count = 5
    """That span the neighborhood of an example."""

    def rows_printed(self) -> Iterator[tuple[str, ...]]:
        """Samples and controls against held-out data, in rows of the printed table of :data:`SHARES` and distance."""
        for name, row in self.rows.items():
            yield KINDS[name], *row.shares, f"{row.kernel:.3f}"

    def section(self, split: str) -> Section:
        """Its part of the report."""
        rows = tuple((KINDS[name], *row.shares, format_estimate(row.kernel)) for name, row in self.rows.items())
        note = (
            f"Each set of {self.count:,} is compared with as many data of the {split} split, by {self.features}. "
            "Read each number between the first row, the best that is to be had, and the last one: no other library "
            "has these features, and none has these numbers. Precision is the share of the set that lies where data "
            f"are (within reach of {self.neighbors} neighbors), recall the share of data that lie where the set is; "
            "density and coverage are their likes that outliers lead less. The kernel distance is 0 on average for "
            "equal distributions. Draws of the model carry its noise, means do not."
        )
        return Section("quality", TITLE, HEADER, rows, note)


@dataclass(frozen=True)
class SampleQuality:
    """Samples and reconstructions against held-out data: see :func:`curvae.evaluation.quality`."""

    name = "quality"

    def check(self, system: System) -> None:
        """Of any system; what makes no data has none."""

    def compute(self, subject: Subject) -> Measured:
        settings = subject.settings
        return Measured(quality(subject.system, subject.data, settings.split, settings.limit, settings.seed))


def absent(run: str) -> Section:
    """Why the report has no such part."""
    why = (
        f"it was not asked for, or there is nothing to compare; run `curvae evaluate {run} --quality` and "
        "write the report again."
    )
    return Section("quality", TITLE, absent=why)


def quality(system: System, data: Data, split: str = "test", limit: int | None = None, seed: int = 0) -> Quality | None:
    """Samples and reconstructions of a system against held-out data, with two controls.

    N data of the split, chosen at random, are compared with N training data (the best case: nothing more is to be had),
    draws of the model, the decoder's means for draws of the prior, reconstructions, and draws of a Gaussian with the
    mean and covariance of the training data (the bad case). Each number is to be read between the two controls: the
    features are not those of other libraries, and neither are the numbers.

    Args:
        system: None is returned where it makes no data at all, or its data are categories or have holes.
        data: None is returned for fewer than 20 held-out or training data.
        split: that is compared with.
        limit: the most data of each kind; 1,000 at any rate.
        seed: of the draws.
    """
    held: ArrayTable = getattr(data, split)
    count = min(COUNT, len(held), len(data.train), COUNT if limit is None else limit)
    if count < FEWEST or held.mask is not None or data.train.mask is not None or data.spec.support == "category":
        return None
    if isinstance(system, HasModel) and isinstance(system.parts().model.likelihood, Categorical):
        return None
    with seeded_evaluation(system, seed) as generator:
        index, train = _chosen(held, count, seed), _rows(data.train, _chosen(data.train, count, seed))
        features, words = fit_features(train)
        truth = features(_rows(held, index)).numpy()
        made = {"train": train, **_made(system, held, index, generator), "noise": _gaussian(train, count, seed)}
        rows = {name: likeness(truth, features(x).numpy()) for name, x in made.items()}
    return Quality(rows, words, count, NEIGHBORS) if len(made) > 2 else None


def likeness(real: NDArray, made: NDArray, k: int = NEIGHBORS) -> Likeness:
    r"""Precision, recall, density, coverage and kernel distance of two sets of features (N, F).

    With ``B_k(a; A)`` the ball around a that reaches its k-th neighbor in A: precision is the share of made points in
    any ``B_k(r; real)``, recall that of real ones in any ``B_k(m; made)``; density is the number of real balls that
    hold a made point over k, coverage the share of real balls that hold one.

    Reference: Kynkaanniemi, Karras, Laine, Lehtinen and Aila, *Improved Precision and Recall Metric for Assessing
    Generative Models*, NeurIPS 2019; Naeem, Oh, Uh, Choi and Yoo, *Reliable Fidelity and Diversity Metrics for
    Generative Models*, ICML 2020; Binkowski, Sutherland, Arbel and Gretton, *Demystifying MMD GANs*, ICLR 2018.

    Example:
        >>> real = np.arange(20.0)[:, None]
        >>> found = likeness(real, real / 2 + 0.05, k=1)
        >>> found.precision, found.recall, found.coverage
        (1.0, 0.55, 0.55)
    """
    from scipy.spatial.distance import cdist

    across = cdist(real, made)
    of_real, of_made = (_radius(cdist(part, part), k) for part in (real, made))
    inside = across <= of_real[:, None]
    return Likeness(
        precision=float(inside.any(0).mean()),
        recall=float((across <= of_made).any(1).mean()),
        density=float(inside.sum(0).mean() / k),
        coverage=float(inside.any(1).mean()),
        kernel=kernel_distance(real, made),
    )


def kernel_distance(x: NDArray, y: NDArray) -> Estimate:
    """Unbiased squared MMD of two sets (N, F) with the kernel ``(a'b / F + 1)^3``, and its standard error.

    It is the mean of ``k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)`` over i != j; the error is that of a
    U-statistic, twice the spread of its means over j.

    Raises:
        ValueError: sets of different sizes.
    """
    if len(x) != len(y):
        raise ValueError(f"kernel_distance: expects two sets of one size; got {len(x)} and {len(y)}.")
    count, size = x.shape

    def kernel(a: NDArray, b: NDArray) -> NDArray:
        return (a @ b.T / size + 1) ** 3

    cross = kernel(x, y)
    terms = kernel(x, x) + kernel(y, y) - cross - cross.T
    np.fill_diagonal(terms, 0)
    each = terms.sum(1) / (count - 1)
    return Estimate(float(each.mean()), float(2 * each.std(ddof=1) / np.sqrt(count)))


def _radius(distances: NDArray, k: int) -> NDArray:
    """To the k-th neighbor, the point itself not counted."""
    return np.partition(distances, k, axis=1)[:, k]


def _chosen(table: ArrayTable, count: int, seed: int) -> Int[Tensor, " N"]:
    """Rows at random: tables may be sorted."""
    return torch.randperm(len(table), generator=Generator().manual_seed(seed))[:count]


def _rows(table: ArrayTable, index: Tensor) -> Float[Tensor, "N *event"]:
    return table.transform.inverse(table.batch(index).x).cpu().float()


def _made(system: System, table: ArrayTable, rows: Int[Tensor, " N"], generator: Generator) -> dict[str, Tensor]:
    """What the system makes, in data units; names that do not apply are missing."""
    sizes = in_parts(len(rows), 200)
    model = system.parts().model if isinstance(system, HasModel) else None
    found: dict[str, list[Tensor]] = {}
    if isinstance(system, CanSample):
        found["samples"] = [system.sample(n, generator).cpu() for n in sizes]
    if model is not None and model.by_latents_alone:
        found["means"] = [model.mean(model.prior.sample(n, generator)).cpu() for n in sizes]
    if isinstance(system, CanReconstruct) and not (model is not None and model.autoregressive):
        batches = (batch_to_system(system, batch) for batch in table.batches(200, rows))
        found["reconstructions"] = [reconstruct_observed(system, batch).cpu() for batch in batches]
    event, inverse = table.raw.shape[1:], table.transform.inverse
    return {name: inverse(torch.cat(parts).float().reshape(-1, *event)).float() for name, parts in found.items()}


def _gaussian(x: Float[Tensor, "N *event"], count: int, seed: int) -> Float[Tensor, "M *event"]:
    """Draws of the Gaussian with the mean and covariance of x."""
    weight = torch.randn(count, len(x), generator=Generator().manual_seed(seed)) / (len(x) - 1) ** 0.5
    flat = x.flatten(1)
    return (flat.mean(0) + weight @ (flat - flat.mean(0))).reshape(count, *x.shape[1:])
