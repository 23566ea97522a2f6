"""What an evaluation says of its baselines: immutable values, and the names of their arrays."""

from dataclasses import dataclass
from typing import Annotated

from curvae.baselines import NAMES, label
from curvae.evaluation.estimate import Estimate
from curvae.io.typed import Count, OneOf

PREFIX = "baseline_"
"""Of the arrays with log p(x) of each row, in ``evaluation.npz``."""


@dataclass(frozen=True)
class BaselineResult:
    """A model in closed form on the rows that were evaluated, in the same units; nats per datum, means over data.

    Example:
        >>> BaselineResult("ppca", 2, Estimate(-16.1, 0.4), Estimate(1.2, 0.1)).label
        'PPCA, 2 latents'
    """

    name: Annotated[str, OneOf(NAMES)]
    latent: Count | None = None
    """Number of its latent dimensions; None where it has none, or is left out."""
    log_likelihood: Estimate | None = None
    """Exact; None where it is left out."""
    difference: Estimate | None = None
    """log p(x) of the system less that of the baseline, paired by datum; None where the system has none."""
    trusted: Estimate | None = None
    """The same over the data that are not flagged."""
    note: str = ""
    """Why it is left out, or to which part of the training rows it was fitted, in words."""

    @property
    def label(self) -> str:
        """Its name and number of latents."""
        return label(self.name, self.latent)

    @property
    def array(self) -> str:
        """Name of its array."""
        return PREFIX + self.name
