"""Laplace's approximation with a diagonal covariance."""

from collections.abc import Iterator

import torch
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.weights.diagonal_curvature import diagonal_curvature
from curvae.weights.evidence import evidence_precision
from curvae.weights.posterior import SampledWeights
from curvae.weights.rows import CodedRows
from curvae.weights.vectors import WeightVector, group_slices, normal_vector, weight_vector


class DiagonalLaplace(SampledWeights):
    r"""``q(theta) = N(theta^, diag(h + lambda)^-1)``: h the diagonal of the Gauss-Newton matrix at the weights found.

    Weights that the data say nothing of are as wide as their prior, and in a deep network all of them together do what
    no single one would: draws reconstruct the worse the more such weights there are.

    Args:
        prior_precision: lambda of ``N(0, I / lambda)``; None = of each parameter by its evidence.

    Example:
        >>> q = DiagonalLaplace()
        >>> q.curvature, q.precision = torch.tensor([99.0, 0.0]), torch.tensor([1.0, 4.0])
        >>> (q.curvature + q.precision).rsqrt()   # standard deviations
        tensor([0.1000, 0.5000])
    """

    curvature: Tensor
    precision: Tensor

    def __init__(self, prior_precision: float | None = None):
        super().__init__()
        self.prior_precision = prior_precision
        self.register_buffer("curvature", torch.zeros(0))
        self.register_buffer("precision", torch.zeros(0))

    @torch.no_grad()
    def fit(self, model: LatentVariableModel, rows: CodedRows) -> None:
        """See the rows, at the weights that the decoder has."""
        weights = weight_vector(model.decoder)
        self.curvature = diagonal_curvature(model, rows)
        self.precision = torch.empty_like(weights)
        for group in group_slices(model.decoder):
            known = self.prior_precision
            by_evidence = evidence_precision(weights[group].square().sum(), self.curvature[group])
            self.precision[group] = by_evidence if known is None else known

    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        deviation = (self.curvature + self.precision).rsqrt() if len(self.curvature) else torch.zeros_like(center)
        for _ in range(count):
            yield center + deviation * normal_vector(center, generator)
