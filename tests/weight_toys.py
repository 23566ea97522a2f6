"""A linear decoder with a Gaussian posterior over its weights: log p(x | weights) is known exactly."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.distributions import MultivariateNormal

from curvae.inference import Inference, Inferred
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, PrecisionGaussian
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from curvae.typing import Batch

SCALE = 0.5


class ExactInference(Inference):
    """The posterior of the linear model that asks: importance sampling has no error."""

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        weight, bias = model.decoder.weight, model.decoder.bias
        precision = weight.mT @ weight / SCALE**2 + torch.eye(weight.shape[1], dtype=weight.dtype)
        mean = torch.linalg.solve(precision, weight.mT @ (batch.x - bias).mT / SCALE**2).mT
        return Inferred(PrecisionGaussian(mean, torch.linalg.cholesky(precision).expand(len(mean), -1, -1)))


class SharedEncoder(Inference):
    """One Gaussian for all models, somewhat too wide: importance sampling has an error."""

    def __init__(self, weight: Tensor, width: float = 0.3):
        super().__init__()
        self.map = nn.Parameter(torch.linalg.pinv(weight))
        self.width = width

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        mean = batch.x @ self.map.mT
        return Inferred(DiagonalGaussian(mean, torch.full_like(mean, self.width).log()))


class BayesianLinear(LatentSystem):
    """``x = W z + noise`` with ``W ~ N(mean, spread^2)``, whose draws are its models."""

    def __init__(self, spread: float = 0.1, exact: bool = True, size: int = 2, outputs: int = 6):
        generator = torch.Generator().manual_seed(0)
        decoder = nn.Linear(size, outputs).double()
        decoder.weight.data = torch.randn(outputs, size, generator=generator, dtype=torch.float64)
        decoder.bias.data.zero_()
        model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(outputs, scale=SCALE)).double()
        super().__init__(model, ExactInference() if exact else SharedEncoder(decoder.weight.detach()), elbo)
        self.center, self.spread = decoder.weight.detach().clone(), spread

    def models(self, count: int, generator: Generator | None = None) -> Iterator[LatentSystem]:
        weight = self.model.decoder.weight
        try:
            for _ in range(count):
                noise = torch.randn(self.center.shape, generator=generator, dtype=torch.float64)
                weight.data = self.center + self.spread * noise
                yield self
        finally:
            weight.data = self.center.clone()

    def exact_matrix(self, x: Tensor, count: int, seed: int = 0) -> Tensor:
        """``log p(x | W_m)`` in closed form, of the models that such a seed draws."""
        noise = SCALE**2 * torch.eye(x.shape[1], dtype=torch.float64)
        rows = []
        for model in self.models(count, torch.Generator().manual_seed(seed)):
            weight = model.model.decoder.weight.detach()
            rows.append(MultivariateNormal(torch.zeros(x.shape[1]).double(), weight @ weight.mT + noise).log_prob(x))
        return torch.stack(rows)

    def marginal(self) -> MultivariateNormal:
        noise = SCALE**2 * torch.eye(len(self.center), dtype=torch.float64)
        return MultivariateNormal(torch.zeros(len(self.center)).double(), self.center @ self.center.mT + noise)
