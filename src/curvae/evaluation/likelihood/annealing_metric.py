"""The metric of annealing: a second opinion on log p(x), and how far it agrees with the first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.estimate import Estimate, Scores, Summary
from curvae.evaluation.formatting import format_count, format_estimate, format_number, format_share
from curvae.evaluation.likelihood.annealing import CHAINS, SPREAD_BAD, annealed_importance_sampling, require_annealable
from curvae.evaluation.likelihood.diagnostics import ESS_BAD
from curvae.evaluation.likelihood.estimation import flagged
from curvae.evaluation.likelihood.scores import bar
from curvae.evaluation.metric import Measured, Subject
from curvae.io.typed import Count
from curvae.systems import System


@dataclass(frozen=True)
class AnnealedResult:
    """Annealed importance sampling from the prior, for the first data."""

    log_likelihood: Estimate
    """Nats per example; like all such estimates it errs low on average."""
    ess: Summary
    """In chains; flagged below 10."""
    acceptance: float
    """Mean probability with which a transition was accepted; steps were tuned to 0.8."""
    temperatures: Count
    """Asked for; an example whose weights spread too much gets up to 16 times as many."""
    chains: Count
    count: Count
    """Number of data."""
    difference: Estimate | None = None
    """``log_likelihood`` less the headline of the same data, nats; both err low, so the higher one is nearer."""
    taken: Summary | None = None
    """Median and most of the temperatures of an example, and the share of data that are flagged even so."""
    flagged: Count = 0
    """Data whose annealing cannot be trusted, as log weights spread over chains by more than 1 nat or the estimate is
    not finite. The former are in the means above, and not in the agreement."""
    compared: Count = 0
    """Data that are flagged neither here nor in the headline."""
    agreement: float = math.nan
    """Share of these on which both agree within two standard errors, ``|difference_i| <= 2 sqrt(s_i^2 + t_i^2)``,
    each at the upper end of its 95 % confidence interval, so that 99 % are expected, not 95."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to be careful about, in plain words."""
        said = []
        if self.flagged:
            said.append(
                f"{self.flagged:,} of the data that were annealed are flagged: their log weights spread by more than 1 "
                "nat over the chains, or are not finite. They are left out where agreement is counted; take more "
                "temperatures."
            )
        if self.difference is not None and self.difference.value > 4 * self.difference.monte_carlo + 0.05:
            said.append(
                f"Annealed importance sampling finds {self.difference.value:.2f} nats more than log p(x) above, for "
                f"the same {self.count} data. Both err low: the proposals miss a part of the posterior."
            )
        return tuple(said)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Its row of the printed table."""
        gap, taken = self.difference, self.taken
        steps = f"{self.temperatures} temperatures"
        steps += "" if taken is None else f", median {taken.median:,.0f}, most {taken.worst:,.0f}"
        beside = "" if gap is None else f"; {Estimate(gap.value, gap.monte_carlo):+.2f} to the above"
        bad = f"; {self.flagged} flagged" if self.flagged else ""
        agree = "" if math.isnan(self.agreement) else f"; agree for {self.agreement:.1%} of {self.compared} not flagged"
        yield f"  annealed, first {self.count} data", f"{self.log_likelihood} ({steps}{beside}{bad}{agree})"

    def described(self) -> tuple[str, str, str]:
        """Its row of the report: the second opinion, and how far it agrees."""
        text = (
            f"Annealed importance sampling of the first {format_count(self.count, 'datum', 'data')}: "
            f"{self.chains} chains over {format_count(self.temperatures, 'temperature', 'temperatures')}"
        )
        text += "." if self.taken is None else f", or more where weights spread (most {self.taken.worst:,.0f})."
        if self.flagged:
            spread = "whose log weights spread by more than 1 nat or are not finite"
            text += f" {format_count(self.flagged, 'datum is', 'data are')} flagged, {spread}."
        if self.difference is not None:
            apart = format_number(self.difference.value, self.difference.stderr)
            text += f" It is {apart} nats above log p(x) of the same data."
        if math.isfinite(self.agreement):
            text += (
                f" Both agree within two standard errors for {format_share(self.agreement, 1)} of the "
                f"{format_count(self.compared, 'datum that is', 'data that are')} flagged by neither."
            )
        return ("log p(x), annealed", f"{format_estimate(self.log_likelihood)} nats", text)


@dataclass(frozen=True)
class Annealing:
    """Annealed importance sampling beside the headline, see
    :func:`curvae.evaluation.annealed_importance_sampling`.
    """

    temperatures: int = 300
    """Data whose weights spread too much in a first run get up to 16 times as many."""
    data: int = 100
    """Number of data, the first ones, that it is done for."""
    name = "ais"

    def check(self, system: System) -> None:
        """
        Raises:
            ValueError: fewer than 1 temperature or example, or a system without a model (HasModel) of continuous
                latents or without evidence.
        """
        require_annealable(system, temperatures=self.temperatures, data=self.data)

    def compute(self, subject: Subject) -> Measured:
        count, settings = min(self.data, len(subject.scores["index"])), subject.settings
        with bar(count, subject.progress) as report:
            how = {"seed": settings.seed, "memory": settings.memory, "report": report}
            found = annealed_importance_sampling(subject.system, subject.table, self.temperatures, count, **how)
        return Measured(summarize_annealed(found, subject.scores, self.temperatures, CHAINS), found)


def summarize_annealed(found: Scores, scores: Scores, temperatures: int, chains: int) -> AnnealedResult:
    """Annealed importance sampling of some data, beside the headline of the same ones; only where both are finite."""
    rows = np.searchsorted(scores["index"], found["index_ais"])
    same = {name: values[rows] for name, values in scores.items()}
    bad = flagged_annealed(found)
    taken = Summary.of(found["temperatures_ais"].astype(np.float64), np.max, bad)
    kept = np.isfinite(found["log_likelihood_ais"])
    if "log_likelihood" in same:
        kept &= np.isfinite(same["log_likelihood"])
    found, same = ({name: values[kept] for name, values in part.items()} for part in (found, same))
    ess = found["ess_ais"]
    return AnnealedResult(
        Estimate.of(found["log_likelihood_ais"], found["stderr_ais"]),
        Summary.of(ess, np.min, ess < ESS_BAD),
        float(found["acceptance_ais"].mean()) if kept.any() else math.nan,
        temperatures,
        chains,
        int(kept.sum()),
        taken=taken,
        flagged=int(bad.sum()),
        **_beside(found, same),
    )


def _beside(found: Scores, same: Scores) -> dict[str, Any]:
    """How far annealing and the headline agree, example by example."""
    if "log_likelihood" not in same:
        return {}
    difference = found["log_likelihood_ais"] - same["log_likelihood"]
    error = np.hypot(found["limit_ais"], same.get("limit_best", 0.0))
    trusted = ~(flagged(same) | flagged_annealed(found))
    agree = (np.abs(difference) <= 2 * error)[trusted]
    return {
        "difference": Estimate.of(difference, found["stderr_ais"]),
        "compared": int(trusted.sum()),
        "agreement": float(agree.mean()) if len(agree) else math.nan,
    }


def flagged_annealed(found: Scores) -> NDArray[np.bool_]:
    """Which data have no annealed estimate to be trusted: not finite, or log weights that spread by over 1 nat."""
    return ~np.isfinite(found["log_likelihood_ais"]) | ~(found["spread_ais"] <= SPREAD_BAD)
