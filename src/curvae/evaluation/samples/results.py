"""What an evaluation found of samples beside data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from curvae.evaluation.estimate import Estimate
from curvae.io.typed import Count, OneOf

KINDS = {
    "train": "training data (best case)",
    "samples": "draws of the model",
    "means": "their means",
    "reconstructions": "reconstructions",
    "noise": "matched Gaussian (bad case)",
}
"""What is compared with held-out data, in words; the first and the last are the controls."""


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
    """That span the neighborhood of a datum."""
