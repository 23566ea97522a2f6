"""What the split of the inference gap found: immutable values, and their plain form for JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from curvae.evaluation.results import Estimate, plain
from curvae.io.typed import Count, OneOf, conform

KHAT_BAD = 0.7
MEMBERS = {
    "own": "the system's own posterior",
    "best": "its family, best for each datum",
    "laplace": "Laplace at the mode",
    "diagonal": "diagonal Gaussian, best for each datum",
    "full": "full Gaussian, best for each datum",
}
"""Posteriors of the table, in words."""


@dataclass(frozen=True)
class Member:
    """A posterior family on the trained decoder: nats per datum, means over the data."""

    elbo: Estimate
    gap: Estimate
    """log p(x) - ELBO."""
    gain: Estimate
    """Its ELBO less that of the system's own posterior."""


@dataclass(frozen=True)
class Gaps:
    """The inference gap in its parts; nats per datum, standard errors paired over data.

    ``inference = approximation + amortization``, datum by datum.
    """

    log_likelihood: Estimate
    """From draws of a mixture of three proposals, which errs low on average."""
    inference: Estimate
    """log p(x) - ELBO(q) of the system's own posterior."""
    approximation: Estimate
    """log p(x) - ELBO(q*), q* the best member of q's family that is found for each datum."""
    amortization: Estimate
    """ELBO(q*) - ELBO(q): what one pass for all data costs."""
    amortization_train: Estimate | None = None
    """That of training data."""
    generalization: Estimate | None = None
    """``amortization - amortization_train``: above 0 where the encoder is better on data that it was trained on."""
    left: Estimate = field(default_factory=lambda: Estimate(0.0, 0.0))
    """What a last quarter of the steps still added to ELBO(q*); most of what remains is less."""
    members: Mapping[Annotated[str, OneOf(MEMBERS)], Member] = field(default_factory=dict)
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
        return plain(asdict(self) | {"warnings": self.warnings})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Gaps":
        """The inverse of :meth:`to_dict`."""
        return conform(values, cls)
