"""What latents say about data, and whether the aggregate posterior is the prior: from pairs of posteriors and draws."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from curvae.data import ArrayTable
from curvae.evaluation.draws import equally_weighted, seeded_evaluation
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.formatting import format_estimate, format_number, format_p_value
from curvae.evaluation.information.posterior_summary import kl_to_prior
from curvae.evaluation.information.two_sample import classifier_test, mmd
from curvae.evaluation.metric import Measured, Section, Subject
from curvae.io.typed import Count
from curvae.latents import Axes
from curvae.posteriors import (
    DensityPosterior,
    DiagonalGaussian,
    GaussianPosterior,
    ImplicitGaussian,
    Posterior,
    rotated,
)
from curvae.systems import HasModel, Parts, System
from curvae.systems.device import batch_to_system

TITLE = "What the latents carry"
ABSENT = "this evaluation says nothing of it; it takes continuous latents and 20 data or more."
"""Why the report has no such part."""
COUNT = 1000
"""Most data: all pairs of them are seen, and half a second is spent at D = 16."""
DEAR = 200
"""Most data where the density of a posterior is no Gaussian's, which can take long."""
FEWEST = 20
"""Below it nothing is said."""
FLOATS = 2**23
"""Of values at a time."""


@dataclass(frozen=True)
class Information:
    """Information in nats, and the aggregate posterior ``q(z) = mean q(z | x)`` against the prior.

    Example:
        >>> Information(Estimate(2.0, 0.1), Estimate(2.2, 0.1), ceiling=6.9, count=1000).mutual_upper
        Estimate(value=2.2, stderr=0.1, monte_carlo=0.0)
    """

    mutual_lower: Estimate | None
    """Lower end of I_q(x; z); None where the posterior has no density. At most ``ceiling``."""
    mutual_upper: Estimate
    """Upper end of it: the mean KL to the prior, or less."""
    correlation_lower: Estimate | None = None
    """Lower end of the total correlation of q(z); None where posteriors are not Gaussian."""
    correlation_upper: Estimate | None = None
    mmd: float = 0.0
    """Squared maximum mean discrepancy of q(z) and the prior, unbiased."""
    mmd_p_value: float = 1.0
    accuracy: float = 0.5
    """Share of held-out draws of which a classifier told whether they are of q(z) or of the prior; 1/2 is the best."""
    accuracy_stderr: float = 0.0
    accuracy_p_value: float = 1.0
    ceiling: float = 0.0
    """log N: what N data can show at most."""
    count: Count = 0
    """N."""

    def rows(self) -> Iterator[tuple[str, str]]:
        """Its rows of the printed table."""
        most = f"nats (of {self.count:,} data, log N = {self.ceiling:.2f})"
        low = "" if self.mutual_lower is None else f"between {self.mutual_lower} and "
        yield "information of z on x", f"{low or 'at most '}{self.mutual_upper} {most}"
        if self.correlation_lower is not None and self.correlation_upper is not None:
            least = max(0.0, self.correlation_lower.value)
            yield "total correlation of q(z)", f"between {least:.2f} and {self.correlation_upper} nats"
        if math.isnan(self.accuracy):
            return
        told = f"a classifier is right for {self.accuracy:.1%} (p = {self.accuracy_p_value:.2g})"
        yield "q(z) against the prior", f"{told}, MMD² {self.mmd:.2g} (p = {self.mmd_p_value:.2g})"

    def section(self) -> Section:
        """Its part of the report."""
        note = (
            f"From {self.count:,} data, which can show log N = {self.ceiling:.2f} nats of information at most; where "
            "the two ends are far apart, more cannot be said from so many. Standard errors are over the choice of data."
        )
        return Section(
            "information", TITLE, ("Quantity", "Value ± error", "What it is"), tuple(self._described()), note
        )

    def _described(self) -> list[tuple[str, str, str]]:
        high = format_estimate(self.mutual_upper)
        mutual = f"at most {high}" if self.mutual_lower is None else f"{format_estimate(self.mutual_lower)} to {high}"
        told = format_number(100 * self.accuracy, 100 * self.accuracy_stderr)
        rows = [("Information I(x; z)", f"{mutual} nats", "How much the latents say about a datum.")]
        if self.correlation_lower is not None and self.correlation_upper is not None:
            least = format_number(max(0.0, self.correlation_lower.value), figures=2)
            most = format_estimate(self.correlation_upper)
            text = "How far the latents of all data together are from independent of one another."
            rows.append(("Total correlation", f"{least} to {most} nats", text))
        chance = format_p_value(self.accuracy_p_value)
        text = f"Held-out latents of data told from prior draws; 50 % is the best ({chance})."
        rows.append(("Classifier", f"{told} %", text))
        text = (
            f"The same by a kernel; unbiased, zero on average if they are alike ({format_p_value(self.mmd_p_value)})."
        )
        rows.append(("MMD²", format_number(self.mmd, figures=2), text))
        return rows


@dataclass(frozen=True)
class LatentInformation:
    """What latents say about data, and q(z) against the prior: see :func:`curvae.evaluation.information`."""

    name = "information"

    def check(self, system: System) -> None:
        """Of any system; one without continuous latents has none."""

    def compute(self, subject: Subject) -> Measured:
        settings = subject.settings
        return Measured(information(subject.system, subject.table, settings.limit, settings.seed, subject.axes))


class InfluenceEstimate(NamedTuple):
    """A mean over data that is a function of all of them."""

    value: float
    influence: Float[Tensor, " N"]
    """Of each example: what the mean gains where it counts more, as a component too; its spread is the error."""

    @property
    def estimate(self) -> Estimate:
        """With the standard error of the infinitesimal jackknife, ``sd(influence) / sqrt(N)``."""
        return Estimate(self.value, float(self.influence.std()) / math.sqrt(len(self.influence)))

    def plus(self, other: "InfluenceEstimate", sign: float = 1.0) -> "InfluenceEstimate":
        """The sum, or with ``sign=-1`` the difference."""
        return InfluenceEstimate(self.value + sign * other.value, self.influence + sign * other.influence)

    @classmethod
    def of(cls, values: Float[Tensor, " N"]) -> "InfluenceEstimate":
        """A plain mean."""
        return cls(float(values.mean()), values)


def information_lower_bound(log_q: Float[Tensor, "N N"]) -> InfluenceEstimate:
    r"""``mean_i log q(z_i | x_i) / (1/N sum_j q(z_i | x_j))`` from ``log_q[i, j] = log q(z_i | x_j)``.

    A lower bound of I_q(x; z) in expectation, and never above log N: the mixture of N data knows no more of them.

    Reference: van den Oord, Li and Vinyals, 2018; Poole, Ozair, van den Oord, Alemi and Tucker, *On Variational Bounds
    of Mutual Information*, ICML 2019.

    Example:
        >>> round(information_lower_bound(1e9 * torch.eye(4)).value, 4)   # log 4
        1.3863
        >>> float(information_lower_bound(torch.zeros(4, 4)).value)
        0.0
    """
    return _rate(log_q, log_q, len(log_q))


def information_upper_bound(log_q: Float[Tensor, "N N"]) -> InfluenceEstimate:
    """The same with the mixture of the other N - 1 data: an upper bound of I_q(x; z) in expectation.

    Reference: Poole, Ozair, van den Oord, Alemi and Tucker, ICML 2019.
    """
    others = log_q.clone()
    others.fill_diagonal_(-torch.inf)
    return _rate(log_q, others, len(log_q) - 1)


def _rate(log_q: Float[Tensor, "N N"], mixed: Float[Tensor, "N N"], count: int) -> InfluenceEstimate:
    total = mixed.logsumexp(1)
    gain = log_q.diagonal() - total + math.log(count)
    return InfluenceEstimate(float(gain.mean()), gain - (mixed - total.unsqueeze(1)).exp().sum(0))


def information(
    system: System, table: ArrayTable, limit: int | None = None, seed: int = 0, axes: Axes | None = None
) -> Information | None:
    """Mutual information, total correlation and the tests against the prior, for the first data of a table.

    ``I_q(x; z) = E KL(q(z | x) || p(z)) - KL(q(z) || p(z))`` lies between ``mutual_lower``, the estimate with the
    mixture of all N posteriors (at most log N), and ``mutual_upper``, the least of that without the example's own, of
    the mean KL to the prior and, for Gaussian posteriors, of the sum below. Well under log N both are near the true
    value.

    Total correlation, for Gaussian posteriors: ``TC(q(z)) = E TC(q(z | x)) + sum_d I_q(x; z_d) - I_q(x; z)``, hence
    between the values that the two ends of I_q give; that it is not negative bounds I_q by the first two terms. Each
    I_q(x; z_d) is estimated with the mixture of all N, which errs low by little as long as it is far below log N.

    Args:
        system: None is returned for one without a model of continuous latents.
        table: its first 1,000 data are taken, or as many as there are; None is returned for fewer than 20; 200
            where posteriors are not Gaussian.
        limit: the most data.
        seed: of draws, permutations and the split.
        axes: of latents, which total correlation depends on; as they were trained if None.
    """
    count = min(COUNT, len(table), len(table) if limit is None else limit)
    if not isinstance(system, HasModel) or count < FEWEST or not (prior := system.parts().model.prior).continuous:
        return None
    latent = system.parts()
    with seeded_evaluation(system, seed) as generator:
        simple = isinstance(_inferred(system, latent, table, torch.arange(1)), GaussianPosterior)
        count = count if simple else min(count, DEAR)
        chunks = torch.arange(count).split(_rows(count, prior.size))
        parts = [_inferred(system, latent, table, index) for index in chunks]
        parts = parts if axes is None else [rotated(q, axes.rotation) for q in parts]
        z = torch.cat([equally_weighted(q, 1, generator)[0] for q in parts])
        drawn = prior.sample(count, generator)
        rate = InfluenceEstimate.of(torch.cat([kl_to_prior(q, prior) for q in parts]).double().cpu())
        found = _ends(parts, z, rate)
    points, expected = (value.double().cpu().numpy() for value in (z, drawn))
    tests = _tests(points, expected, seed)
    low, high, least, most = found
    ends = [None if end is None else end.estimate for end in (low, least, most)]
    return Information(ends[0], high.estimate, ends[1], ends[2], **tests, ceiling=math.log(count), count=count)


class BracketEnds(NamedTuple):
    """Of I_q(x; z) and of the total correlation of q(z)."""

    mutual_lower: InfluenceEstimate | None
    mutual_upper: InfluenceEstimate
    correlation_lower: InfluenceEstimate | None = None
    correlation_upper: InfluenceEstimate | None = None


def _ends(parts: list[Posterior], z: Float[Tensor, "N D"], rate: InfluenceEstimate) -> BracketEnds:
    if not all(isinstance(q, DensityPosterior) and not isinstance(q, ImplicitGaussian) for q in parts):
        return BracketEnds(None, rate)
    log_q = torch.cat([_log_prob(q, z) for q in parts], 1)
    low, highs = information_lower_bound(log_q), [rate, information_upper_bound(log_q)]
    split = _split([q for q in parts if isinstance(q, GaussianPosterior)], z)
    high = min([*highs, split] if split else highs, key=lambda end: end.value)
    high = low if high.value < low.value else high
    if split is None:
        return BracketEnds(low, high)
    return BracketEnds(low, high, split.plus(high, -1.0), split.plus(low, -1.0))


def _split(parts: list[GaussianPosterior], z: Float[Tensor, "N D"]) -> InfluenceEstimate | None:
    """``E TC(q(z | x)) + sum_d I_q(x; z_d)`` of Gaussians, which is I_q(x; z) + TC(q(z)); None unless all are such."""
    if sum(len(q.loc) for q in parts) < len(z):
        return None
    mean, variance = (torch.cat([getattr(q, name) for q in parts]).double().cpu() for name in ("mean", "variance"))
    half = torch.cat([q.half_log_det for q in parts]).double().cpu()
    total = InfluenceEstimate.of(0.5 * variance.log().sum(1) - half)
    for d, each in enumerate(z.double().cpu().T):
        marginal = DiagonalGaussian(mean[:, d : d + 1], 0.5 * variance[:, d : d + 1].log())
        total = total.plus(information_lower_bound(_log_prob(marginal, each.unsqueeze(1))))
    return total


def _log_prob(q: Posterior, z: Float[Tensor, "N D"]) -> Float[Tensor, "N B"]:
    assert isinstance(q, DensityPosterior)
    return q.log_prob(z.unsqueeze(1).expand(-1, len(q.center), -1)).double().cpu()


def _inferred(system: System, latent: Parts, table: ArrayTable, index: Int[Tensor, " B"]) -> Posterior:
    return latent.infer(batch_to_system(system, table.batch(index))).posterior


def _rows(count: int, latents: int) -> int:
    return max(1, min(200, FLOATS // (count * latents)))


def _tests(z: NDArray, prior: NDArray, seed: int) -> dict[str, Any]:
    """Of aggregate against prior; NaN where a draw is not finite."""
    if not np.isfinite(z).all():
        return dict.fromkeys(("mmd", "mmd_p_value", "accuracy", "accuracy_stderr", "accuracy_p_value"), math.nan)
    kernel, told = mmd(z, prior, seed=seed), classifier_test(z, prior, seed)
    return {
        "mmd": kernel.squared,
        "mmd_p_value": kernel.p_value,
        "accuracy": told.accuracy,
        "accuracy_stderr": told.stderr,
        "accuracy_p_value": told.p_value,
    }
