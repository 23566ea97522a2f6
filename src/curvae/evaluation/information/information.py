"""What latents say about data, and whether the aggregate posterior is the prior: from pairs of posteriors and draws."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.data import ArrayTable
from curvae.evaluation.calibration.calibration import equally_weighted
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.information.posterior_summary import divergence
from curvae.evaluation.information.results import Information
from curvae.evaluation.information.two_sample import classified, mmd
from curvae.evaluation.likelihood.scores import untouched
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
from curvae.systems.place import like, place

COUNT = 1000
"""Most data: all pairs of them are seen, and half a second is spent at D = 16."""
DEAR = 200
"""Most data where the density of a posterior is no Gaussian's, which can take long."""
FEWEST = 20
"""Below it nothing is said."""
FLOATS = 2**23
"""Of values at a time."""


class Rate(NamedTuple):
    """A mean over data that is a function of all of them."""

    value: float
    influence: Float[Tensor, " N"]
    """Of each datum: what the mean gains where that datum counts more, as a component too; its spread is the error."""

    @property
    def estimate(self) -> Estimate:
        """With the standard error of the infinitesimal jackknife, ``sd(influence) / sqrt(N)``."""
        return Estimate(self.value, float(self.influence.std()) / math.sqrt(len(self.influence)))

    def plus(self, other: "Rate", sign: float = 1.0) -> "Rate":
        """The sum, or with ``sign=-1`` the difference."""
        return Rate(self.value + sign * other.value, self.influence + sign * other.influence)

    @classmethod
    def of(cls, values: Float[Tensor, " N"]) -> "Rate":
        """A plain mean."""
        return cls(float(values.mean()), values)


def with_itself(log_q: Float[Tensor, "N N"]) -> Rate:
    r"""``mean_i log q(z_i | x_i) / (1/N sum_j q(z_i | x_j))`` from ``log_q[i, j] = log q(z_i | x_j)``.

    A lower bound of I_q(x; z) in expectation, and never above log N: the mixture of N data knows no more of them.

    Reference: van den Oord, Li and Vinyals, 2018; Poole, Ozair, van den Oord, Alemi and Tucker, *On Variational Bounds
    of Mutual Information*, ICML 2019.

    Example:
        >>> float(with_itself(torch.zeros(4, 4)).value), round(with_itself(1e9 * torch.eye(4)).value, 4)   # log 4
        (0.0, 1.3863)
    """
    return _rate(log_q, log_q, len(log_q))


def without_itself(log_q: Float[Tensor, "N N"]) -> Rate:
    """The same with the mixture of the other N - 1 data: an upper bound of I_q(x; z) in expectation.

    Reference: Poole, Ozair, van den Oord, Alemi and Tucker, ICML 2019.
    """
    others = log_q.clone()
    others.fill_diagonal_(-torch.inf)
    return _rate(log_q, others, len(log_q) - 1)


def _rate(log_q: Float[Tensor, "N N"], mixed: Float[Tensor, "N N"], count: int) -> Rate:
    total = mixed.logsumexp(1)
    gain = log_q.diagonal() - total + math.log(count)
    return Rate(float(gain.mean()), gain - (mixed - total.unsqueeze(1)).exp().sum(0))


def information(
    system: System, table: ArrayTable, limit: int | None = None, seed: int = 0, axes: Axes | None = None
) -> Information | None:
    """Mutual information, total correlation and the tests against the prior, for the first data of a table.

    ``I_q(x; z) = E KL(q(z | x) || p(z)) - KL(q(z) || p(z))`` lies between ``mutual_lower``, the estimate with the
    mixture of all N posteriors (at most log N), and ``mutual_upper``, the least of that without the datum's own, of the
    mean KL to the prior and, for Gaussian posteriors, of the sum below. Well under log N both are near the true value.

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
    with untouched(system, seed):
        generator = Generator(place(system)[0]).manual_seed(seed)
        simple = isinstance(_inferred(system, latent, table, torch.arange(1)), GaussianPosterior)
        count = count if simple else min(count, DEAR)
        chunks = torch.arange(count).split(_rows(count, prior.size))
        parts = [_inferred(system, latent, table, index) for index in chunks]
        parts = parts if axes is None else [rotated(q, axes.rotation) for q in parts]
        z = torch.cat([equally_weighted(q.draw(1, generator), 1, generator)[0] for q in parts])
        drawn = prior.sample(count, generator)
        rate = Rate.of(torch.cat([divergence(q, prior) for q in parts]).double().cpu())
        found = _ends(parts, z, rate)
    points, expected = (value.double().cpu().numpy() for value in (z, drawn))
    tests = _tests(points, expected, seed)
    low, high, least, most = found
    ends = [None if end is None else end.estimate for end in (low, least, most)]
    return Information(ends[0], high.estimate, ends[1], ends[2], **tests, ceiling=math.log(count), count=count)


class Ends(NamedTuple):
    """Of I_q(x; z) and of the total correlation of q(z)."""

    mutual_lower: Rate | None
    mutual_upper: Rate
    correlation_lower: Rate | None = None
    correlation_upper: Rate | None = None


def _ends(parts: list[Posterior], z: Float[Tensor, "N D"], rate: Rate) -> Ends:
    if not all(isinstance(q, DensityPosterior) and not isinstance(q, ImplicitGaussian) for q in parts):
        return Ends(None, rate)
    log_q = torch.cat([_log_prob(q, z) for q in parts], 1)
    low, highs = with_itself(log_q), [rate, without_itself(log_q)]
    split = _split([q for q in parts if isinstance(q, GaussianPosterior)], z)
    high = min([*highs, split] if split else highs, key=lambda end: end.value)
    high = low if high.value < low.value else high
    if split is None:
        return Ends(low, high)
    return Ends(low, high, split.plus(high, -1.0), split.plus(low, -1.0))


def _split(parts: list[GaussianPosterior], z: Float[Tensor, "N D"]) -> Rate | None:
    """``E TC(q(z | x)) + sum_d I_q(x; z_d)`` of Gaussians, which is I_q(x; z) + TC(q(z)); None unless all are such."""
    if sum(len(q.loc) for q in parts) < len(z):
        return None
    mean, variance = (torch.cat([getattr(q, name) for q in parts]).double().cpu() for name in ("mean", "variance"))
    half = torch.cat([q.half_log_det for q in parts]).double().cpu()
    total = Rate.of(0.5 * variance.log().sum(1) - half)
    for d, each in enumerate(z.double().cpu().T):
        marginal = DiagonalGaussian(mean[:, d : d + 1], 0.5 * variance[:, d : d + 1].log())
        total = total.plus(with_itself(_log_prob(marginal, each.unsqueeze(1))))
    return total


def _log_prob(q: Posterior, z: Float[Tensor, "N D"]) -> Float[Tensor, "N B"]:
    assert isinstance(q, DensityPosterior)
    return q.log_prob(z.unsqueeze(1).expand(-1, len(q.center), -1)).double().cpu()


def _inferred(system: System, latent: Parts, table: ArrayTable, index: Int[Tensor, " B"]) -> Posterior:
    return latent.infer(like(system, table.batch(index))).posterior


def _rows(count: int, latents: int) -> int:
    return max(1, min(200, FLOATS // (count * latents)))


def _tests(z: NDArray, prior: NDArray, seed: int) -> dict[str, Any]:
    """Of aggregate against prior; NaN where a draw is not finite."""
    if not np.isfinite(z).all():
        return dict.fromkeys(("mmd", "mmd_p_value", "accuracy", "accuracy_stderr", "accuracy_p_value"), math.nan)
    kernel, told = mmd(z, prior, seed=seed), classified(z, prior, seed)
    return {
        "mmd": kernel.squared,
        "mmd_p_value": kernel.p_value,
        "accuracy": told.accuracy,
        "accuracy_stderr": told.stderr,
        "accuracy_p_value": told.p_value,
    }
