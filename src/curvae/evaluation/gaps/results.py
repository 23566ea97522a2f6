"""What the split of the inference gap found: immutable values, their plain form for JSON, and how they are told."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from curvae.evaluation.estimate import Estimate, to_plain_json
from curvae.evaluation.formatting import format_estimate
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.metric import Picture, Section
from curvae.io.typed import Count, OneOf, conform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "What a better posterior would buy"
BLUE, ORANGE = "#0072b2", "#d55e00"
MEMBERS = {
    "own": "the system's own posterior",
    "best": "its family, best for each datum",
    "laplace": "Laplace at the mode",
    "diagonal": "diagonal Gaussian, best for each datum",
    "full": "full Gaussian, best for each datum",
}
"""Posteriors of the table, in words."""


@dataclass(frozen=True)
class FamilyElbo:
    """A posterior family on the trained decoder: nats per example, means over the data."""

    elbo: Estimate
    gap: Estimate
    """log p(x) - ELBO."""
    gain: Estimate
    """Its ELBO less that of the system's own posterior."""


@dataclass(frozen=True)
class Gaps:
    """The inference gap in its parts; nats per example, standard errors paired over data.

    ``inference = approximation + amortization``, example by example.
    """

    log_likelihood: Estimate
    """From draws of a mixture of three proposals, which errs low on average."""
    inference: Estimate
    """log p(x) - ELBO(q) of the system's own posterior."""
    approximation: Estimate
    """log p(x) - ELBO(q*), q* the best member of q's family that is found for each example."""
    amortization: Estimate
    """ELBO(q*) - ELBO(q): what one pass for all data costs."""
    amortization_train: Estimate | None = None
    """That of training data."""
    generalization: Estimate | None = None
    """``amortization - amortization_train``: above 0 where the encoder is better on data that it was trained on."""
    left: Estimate = field(default_factory=lambda: Estimate(0.0, 0.0))
    """What a last quarter of the steps still added to ELBO(q*); most of what remains is less."""
    members: Mapping[Annotated[str, OneOf(MEMBERS)], FamilyElbo] = field(default_factory=dict)
    """Families at their best, by name: ``own``, ``best``, ``laplace``, ``diagonal``, ``full``."""
    khat_flagged: float = 0.0
    """Share of data whose k-hat, of the draws behind log p(x), is above 0.7."""
    count: Count = 0
    excluded: Count = 0
    """Data with values that are not finite, left out of every mean."""
    steps: Count = 0
    samples: Count = 0
    split: str = "test"
    seed: Count = 0
    seconds: float = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to be careful about, in plain words."""
        said = []
        if self.excluded:
            said.append(f"{self.excluded} of {self.count} data gave values that are not finite; they are left out.")
        if self.khat_flagged > 0:
            said.append(
                f"k-hat of log p(x) is above {KHAT_BAD} for {self.khat_flagged:.1%} of the data: there log p(x) tends "
                "to be too low, and so do the inference and the approximation gap."
            )
        if self.left.value > max(0.05, 2 * self.left.stderr, 0.05 * self.approximation.value):
            said.append(
                f"The search for the best posterior had not ended: its last steps brought {self.left.value:.2f} nats. "
                "Take more steps; until then the approximation gap is too large, the amortization gap too small."
            )
        return tuple(said)

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has."""
        return to_plain_json(asdict(self) | {"warnings": self.warnings})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Gaps":
        """The inverse of :meth:`to_dict`."""
        return conform(values, cls)

    def rows(self) -> Iterator[tuple[str, str]]:
        """The gap and its parts in rows of the printed table."""
        yield "inference gap, log p(x) - ELBO", str(self.inference)
        yield "  approximation gap: the family", str(self.approximation)
        yield "  amortization gap: one encoder for all data", str(self.amortization)
        if self.amortization_train is not None and self.generalization is not None:
            yield "amortization gap of training data", str(self.amortization_train)
            yield "generalization gap of the encoder", str(self.generalization)

    def member_rows(self) -> Iterator[tuple[str, str, str, str]]:
        """What each family reaches: its name, ELBO, gap and gain."""
        for name, words in MEMBERS.items():
            member = self.members[name]
            yield words, str(member.elbo), str(member.gap), "" if name == "own" else f"{member.gain:+.2f}"
        yield "the posterior itself: log p(x)", str(self.log_likelihood), "", f"{self.inference:+.2f}"

    def section(self) -> Section:
        """Its part of the report."""
        known = {
            "Inference gap": (self.inference, "log p(x) − ELBO of the system’s own posterior."),
            "Approximation gap": (
                self.approximation,
                "What its family misses, even at its best: asks for a richer one.",
            ),
            "Amortization gap": (
                self.amortization,
                "What its inference misses within the family: asks for refinement.",
            ),
            "… of training data": (self.amortization_train, "The same for data that the encoder was trained on."),
            "Generalization gap": (
                self.generalization,
                "The difference: above zero, the encoder has learned by heart.",
            ),
        }
        rows = tuple((name, format_estimate(value), text) for name, (value, text) in known.items() if value is not None)
        return Section("gaps", TITLE, ("Quantity", "Nats ± error", "What it is"), rows)

    def picture(self) -> Picture:
        """The figure of that part."""
        caption = (
            f"How far the ELBO of each posterior lies below log p(x) for the same decoder and {self.count:,} data of "
            f"the {self.split} split, with one standard error. The best posteriors are sought for each datum by "
            f"{self.steps} steps of gradient ascent."
        )
        alt = "Bars of the inference gap of the system's own posterior, in two parts, and of other posterior families."
        return Picture(self._bars, alt, caption)

    def _bars(self) -> "Figure":
        """What each posterior loses to log p(x), nats; the own one is split in two."""
        from matplotlib.figure import Figure

        gaps = {words: self.members[name].gap for name, words in MEMBERS.items() if name in self.members}
        values, place = [gap.value for gap in gaps.values()], range(len(gaps))
        figure = Figure(figsize=(7.0, 0.5 * len(gaps) + 1.2), layout="constrained")
        axes, family, inference = figure.subplots(), self.approximation.value, self.amortization.value
        axes.barh(place[1:], values[1:], color="#aab2bd", height=0.6)
        axes.barh(place[:1], family, color=BLUE, height=0.6, label="approximation gap: the family")
        axes.barh(place[:1], inference, left=family, color=ORANGE, height=0.6, label="amortization gap: the inference")
        errors = [gap.stderr for gap in gaps.values()]
        axes.errorbar(values, place, xerr=errors, fmt="none", ecolor="#1f2937", capsize=3, linewidth=1)
        axes.set_yticks(place, list(gaps))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="nats below log p(x)")
        figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, columnspacing=1.4, borderaxespad=0.2)
        return figure
