"""What an evaluation found: immutable values, and their plain form for JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from numpy.typing import NDArray

from curvae.evaluation.estimate import Estimate, Summary, to_plain_json
from curvae.evaluation.information import posterior_summary as latents
from curvae.evaluation.information.information import Information
from curvae.evaluation.likelihood import likelihood_summary as likelihood
from curvae.evaluation.likelihood.annealing_metric import AnnealedResult
from curvae.evaluation.likelihood.baselines import BaselineResult
from curvae.evaluation.likelihood.likelihood_summary import ProposalResult
from curvae.evaluation.likelihood.proposal_selection import PROPOSALS
from curvae.evaluation.metric import Finding
from curvae.evaluation.samples.quality import Quality
from curvae.io.typed import Count, OneOf, Share, conform
from curvae.notebook import html_table


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one run on one split. All log-densities are in nats per example, means over data.

    Example:
        >>> result = Evaluation(Estimate(-3.0, 0.1), count=10, samples=500)
        >>> result.log_likelihood.value, result.ess is None
        (-3.0, True)
    """

    log_likelihood: Estimate | None = None
    """The headline, over all data with finite estimates: exact where the system has a density, else that of each
    example's best proposal (see :func:`curvae.evaluation.select_proposal`); None where the system gives no evidence."""
    trusted: Estimate | None = None
    """The headline over the data that are not flagged; None where none are left, or nothing is estimated."""
    flagged: Count = 0
    """Data whose headline cannot be trusted: k-hat above 0.7 with the best proposal, or an estimate not finite."""
    best: ProposalResult | None = None
    """What stands behind ``log_likelihood``: of each example, its best proposal."""
    chosen: Mapping[Annotated[str, OneOf(PROPOSALS)], Share] = field(default_factory=dict)
    """Share of data by the name of that proposal."""
    draws: Summary | None = None
    """Draws from each proposal: median and most of an example, and the share of data that still ask for more."""
    smoothed: Estimate | None = None
    """From Pareto-smoothed weights of the same proposals, where that was asked for."""
    normalizer: float = 0.0
    """Mean error of the common proposal's normalizer, nats; not 0 beyond 2,048 latents, and much alike for all data."""
    own: ProposalResult | None = None
    """From the system's own posterior."""
    laplace: ProposalResult | None = None
    """From the common proposal, the widened Laplace posteriors at the modes found."""
    defensive: ProposalResult | None = None
    """From an equal mixture of the two, over the data where it is finite."""
    chains: ProposalResult | None = None
    """From one fitted to short chains, over the data where the others do not do."""
    ais: AnnealedResult | None = None
    """From annealed importance sampling, where that was asked for."""
    baselines: tuple[BaselineResult, ...] | None = None
    """Models in closed form on the same rows, fitted to the run's training rows; None in files of an older curvae."""
    elbo: Estimate | None = None
    """From all draws of the system's own posterior; None where there are none."""
    log_det: float = 0.0
    """Mean log-determinant of the data transform, nats."""
    unit: str = ""
    """What ``log_likelihood + log_det`` is a density or probability of."""
    bits_per_dim: Estimate | None = None
    """``-(log_likelihood + log_det) / (elements log 2)``, per ``unit``; None unless data are images or levels."""
    kl: Estimate | None = None
    """KL(q(z | x) || p(z)), nats."""
    kl_per_dimension: tuple[float, ...] | None = None
    """KL of each latent's marginal, nats, mean over data; below ``kl`` in sum where q is correlated."""
    active_units: int | None = None
    """Latents whose posterior mean varies over data by more than 0.01 (Burda, Grosse and Salakhutdinov, 2016); None
    of a single example."""
    activity: tuple[float, ...] | None = None
    """That variance, for each latent."""
    information: Information | None = None
    """What latents say about data, and q(z) against the prior, of the first 1,000 data; None without such latents."""
    quality: Quality | None = None
    """Samples and reconstructions against held-out data, where that was asked for."""
    reconstruction_error: float | None = None
    """Root mean square error of the decoded posterior mean, data units; None for categorical data."""
    status: Mapping[str, float] = field(default_factory=dict)
    """Share of data, by name, whose mode search in the system's own inference did not end well."""
    evidence: str = "bound"
    objective: str = "lower"
    """Whether training maximized a "lower" or an "upper" bound of log p(x) or "none". Whatever it was, ``elbo`` and
    ``log_likelihood`` come from the weights of draws, never from it."""
    excluded: Count = 0
    """Data whose estimates are not finite: left out of every mean."""
    count: Count = 0
    """Data evaluated, excluded ones among them."""
    samples: Count = 0
    """Draws asked for, per example and proposal."""
    split: str = "test"
    seed: Count = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    """What to be careful about, in plain words."""
    metrics: Mapping[str, Finding] = field(default_factory=dict)
    """What metrics found that have no field of their own, by their names."""

    @property
    def headline(self) -> ProposalResult | None:
        """The proposal behind ``log_likelihood``; None where that is exact or missing."""
        return self.best or self.laplace or self.own

    @property
    def ess(self) -> Summary | None:
        """Effective sample size behind ``log_likelihood``."""
        return None if self.headline is None else self.headline.ess

    @property
    def khat(self) -> Summary | None:
        """Pareto k-hat behind ``log_likelihood``."""
        return None if self.headline is None else self.headline.khat

    def rows(self) -> Iterator[tuple[str, str]]:
        """Of the printed table: only what is known, what is to be beaten first."""
        for baseline in self.baselines or ():
            yield from baseline.rows()
        yield from likelihood.printed_rows(self)
        yield from () if self.ais is None else self.ais.rows()
        yield from latents.activity_row(self)
        yield from () if self.information is None else self.information.rows()
        yield from latents.error_row(self)
        yield from likelihood.density_row(self)
        for finding in self.metrics.values():
            yield from ((name, value) for name, value in finding.rows)
        yield "time", f"{self.seconds:.1f} s"

    def __str__(self) -> str:
        """The printed table, and what to be careful about."""
        rows = self._with_warnings()
        width = max(len(name) for name, _ in rows)
        return "\n".join([self._title, *(f"{name:<{width}}  {value}" for name, value in rows)])

    def _repr_html_(self) -> str:
        """The same in a notebook."""
        return html_table(self._title, self._with_warnings())

    def _with_warnings(self) -> list[tuple[str, str]]:
        return [*self.rows(), *(("warning", warning) for warning in self.warnings)]

    @property
    def _title(self) -> str:
        return f"Evaluation of {self.count:,} {self.split} data; nats per datum ± standard error"

    def described(self, arrays: Mapping[str, NDArray]) -> Iterator[tuple[str, str, str]]:
        """Rows of the report, from the values of each example, too."""
        yield from (each.described() for each in self.baselines or ())
        yield from likelihood.likelihood_report_rows(self)
        yield from () if self.ais is None or self.log_likelihood is None else (self.ais.described(),)
        yield from likelihood.bound_report_rows(self, arrays)
        yield from latents.posterior_report_rows(self)

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has: a number that is not finite becomes None."""
        values = asdict(self)
        return to_plain_json(
            values if self.metrics else {name: value for name, value in values.items() if name != "metrics"}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evaluation":
        """The inverse of :meth:`to_dict`; names that are not fields are passed over."""
        return conform(values, cls)
