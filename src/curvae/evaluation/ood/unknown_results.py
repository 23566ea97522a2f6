"""What was found of unknown inputs: immutable values, their plain form for JSON, and how they are told."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation.estimate import to_plain_json
from curvae.evaluation.formatting import format_number
from curvae.evaluation.metric import Picture, Section
from curvae.evaluation.ood.detection import Detection, detection
from curvae.io.typed import Count, Share, conform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Unknown inputs"
BINS = 30
"""Of a histogram."""
SHOWN = 0.99
"""Share of rows of either kind within its frame."""
USUAL = 0.95
"""Share of validation rows below the score from which a row is called unusual."""
BLUE, ORANGE = "#0072b2", "#d55e00"
COLUMNS = 3
"""Of histograms, side by side."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreHistogram:
    """Shares of rows in common bins; what is beyond the frame is in the outermost."""

    edges: tuple[float, ...]
    rows: tuple[float, ...]
    known: tuple[float, ...]


@dataclass(frozen=True)
class ScoreFound:
    """One score of all rows; the larger, the less a row is known."""

    name: str
    """Its column."""
    title: str
    median: float
    median_known: float
    """Of validation rows of the run."""
    unusual: Share
    """Share of the rows above 95 % of the validation rows."""
    histogram: ScoreHistogram
    noise: float | None = None
    """What the choice of draws adds to the score of a row, root mean square; None where that is not known or 0."""
    detection: Detection | None = None
    """Of the rows from those they are told from; None where there are none."""

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        values: Mapping[str, Values],
        noise: float | None,
        seed: int = 0,
    ) -> "ScoreFound":
        """From the scores of ``rows``, of ``known`` validation rows and of ``against``, if any; NaN left out."""
        kept = {which: each[~np.isnan(each)] for which, each in values.items()}
        rows, known, against = kept["rows"], kept["known"], kept.get("against")
        limit = np.quantile(known, USUAL, method="higher") if len(known) else np.nan
        told = None if against is None or min(len(rows), len(against)) < 2 else detection(rows, against, seed)
        return cls(
            name,
            title,
            float(np.median(rows)) if len(rows) else np.nan,
            float(np.median(known)) if len(known) else np.nan,
            float((rows > limit).mean()) if len(rows) else 0.0,
            histogram_of(rows, known if against is None else against),
            noise,
            told,
        )


@dataclass(frozen=True)
class UnknownInputs:
    """How little some rows look like those of a run: all scores, and how well each tells them from others."""

    rows: str
    """What they are called."""
    count: Count
    known: Count
    """Validation rows of the run that say what is known."""
    scores: tuple[ScoreFound, ...]
    against: str | None = None
    """The rows that they are told from."""
    others: Count = 0
    """Number of these."""
    models: Count = 0
    """Draws of the weights; 0 where the run has one set of them."""
    samples: Count = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Scores that cannot be had, and why."""
    noise_floor: float | None = None
    """Median over rows of what importance sampling adds to the deviation over models, nats."""
    above_noise: Share | None = None
    """Share of rows where that deviation is above it."""
    flagged: Share = 0.0
    """Share of rows whose log p(x) cannot be trusted."""
    undefined: Count = 0
    """Scores that are NaN, left out where they are."""
    seed: Count = 0
    seconds: float = 0.0
    values: Mapping[str, Values] = field(default_factory=dict, repr=False, compare=False)
    """Every score of every row, (N,), by column; not in files of the run."""
    values_against: Mapping[str, Values] = field(default_factory=dict, repr=False, compare=False)
    """The same of the rows that they are told from."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to be careful about, in plain words."""
        said = []
        if self.flagged > 0.1:
            said.append(
                f"log p(x) cannot be trusted for {self.flagged:.0%} of the rows (k-hat above 0.7): there it tends to "
                "be too low. Unknown rows often are such; their order is by the estimate as it is."
            )
        if self.undefined:
            said.append(f"{self.undefined:,} scores are NaN; they are left out where they are.")
        if self.others and min(self.count, self.others) < 100:
            said.append(f"{self.count:,} and {self.others:,} rows are few: read the intervals.")
        return tuple(said)

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has, without the scores of single rows."""
        return to_plain_json({name: value for name, value in asdict(self).items() if not name.startswith("values")})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "UnknownInputs":
        """The inverse of :meth:`to_dict`."""
        return conform({name: value for name, value in values.items() if not name.startswith("values")}, cls)

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of the table."""
        if self.against is None:
            return ("Score", "Median", "Of validation rows", "Above 95 % of these", "Noise")
        return ("Score", "AUROC", "AUPR", "FPR80", "Noise")

    def table(self) -> Iterator[tuple[str, ...]]:
        """Of each score its row, as it is printed and in the report."""
        for each in self.scores:
            noise = "" if each.noise is None else format_number(each.noise, figures=2)
            if (told := each.detection) is not None:
                yield each.title, str(told.auroc), str(told.aupr), str(told.fpr80), noise
            elif self.against is None:
                medians = (format_number(value) for value in (each.median, each.median_known))
                yield each.title, *medians, f"{each.unusual:.1%}", noise

    def remarks(self) -> Iterator[str]:
        """What was left out, and how far the deviation over models is above its noise."""
        reasons: dict[str, list[str]] = {}
        for title, why in self.left_out.items():
            reasons.setdefault(why, []).append(title)
        for why, titles in reasons.items():
            yield f"Left out: {', '.join(titles)} ({why})."
        if self.noise_floor is not None and self.above_noise is not None:
            yield (
                f"The deviation over models is above the noise of importance sampling (median "
                f"{format_number(self.noise_floor, figures=2)} nats) in {self.above_noise:.0%} of the rows."
            )

    @property
    def title(self) -> str:
        """Of the table."""
        told = f" told from {self.others:,} of {self.against}" if self.against else ""
        weights = f", {self.models} draws of the weights" if self.models else ""
        return f"{self.count:,} rows of {self.rows}{told}{weights}; the larger a score, the less known a row"

    def section(self) -> Section:
        """Its part of the report."""
        about = (
            "AUROC: how often a row of the first kind has the larger score; 0.5 is chance. AUPR: average precision. "
            "FPR80: how many of the others are called unknown where 80 % of these are. In brackets 95 % confidence."
            if self.against
            else "The share of these rows whose score is above that of 95 % of validation rows; 5 % is chance."
        )
        noise = "Noise is what another choice of draws would change in the score of a row, root mean square."
        note = " ".join([f"{self.title}.", about, noise, *self.remarks(), *self.warnings])
        return Section("unknown", TITLE, self.header, tuple(self.table()), note)

    def picture(self) -> Picture:
        """The figure of that part."""
        others = self.against or "validation rows"
        caption = (
            f"Each score of {self.rows} and of {others}, shares of rows in bins; what lies beyond the frame is in the "
            "outermost bin. Where the two do not overlap, the score tells them apart."
        )
        return Picture(self._histograms, f"Histograms of each score of {self.rows} and of {others}.", caption)

    def _histograms(self) -> "Figure":
        from matplotlib.figure import Figure

        lines = -(-len(self.scores) // COLUMNS)
        figure = Figure(figsize=(9.0, 0.5 + 1.9 * lines), layout="constrained")
        places = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        for axes, each in zip(places, self.scores, strict=False):
            for name, shares, color in (
                (self.against or "validation rows", each.histogram.known, BLUE),
                (self.rows, each.histogram.rows, ORANGE),
            ):
                axes.stairs(shares, each.histogram.edges, fill=True, alpha=0.35, color=color, label=name)
            told = "" if each.detection is None else f", AUROC {each.detection.auroc.value:.3f}"
            axes.set_title(f"{each.title}{told}", fontsize=10)
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.tick_params(labelsize=8)
        for axes in places[len(self.scores) :]:
            axes.set_axis_off()
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return figure


def histogram_of(rows: Values, known: Values) -> ScoreHistogram:
    """Shares of both in common bins over the middle 99 % of each.

    >>> histogram_of(np.array([0.0, 1.0]), np.array([1.0, 1.0])).known[-1]
    1.0
    """
    finite = [each[np.isfinite(each)] for each in (rows, known)]
    if not all(map(len, finite)):
        return ScoreHistogram((0.0, 1.0), (0.0,), (0.0,))
    tails = [np.quantile(each, [(1 - SHOWN) / 2, (1 + SHOWN) / 2]) for each in finite]
    low, high = min(each[0] for each in tails), max(each[1] for each in tails)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    rows_share, known_share = (
        np.histogram(np.clip(each, edges[0], edges[-1]), edges)[0] / max(len(each), 1) for each in (rows, known)
    )
    return ScoreHistogram(*(tuple(map(float, each)) for each in (edges, rows_share, known_share)))
