"""A one-dimensional model whose bounds and expected gradients are sums over quadrature nodes: no noise at all."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.posteriors import DiagonalGaussian, Draws
from curvae.priors import StandardNormal
from curvae.typing import Batch
from zoo import batch_of


class Given(DiagonalGaussian):
    """Its draws are made of given noise, (S, B, D): call after call, the next n rows."""

    def __init__(self, loc: Tensor, log_scale: Tensor, noise: Tensor):
        super().__init__(loc, log_scale)
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "used", [0])

    def with_tensors(self, tensors):
        return DiagonalGaussian(**tensors)

    def draw(self, n, generator=None):
        start = self.used[0]
        self.used[0] += n
        noise = self.noise[start : start + n]
        assert len(noise) == n, "more draws asked for than given"
        z = self.loc + self.color(noise)
        return Draws.iid(z, self.log_prob(z))


class Weighted(DiagonalGaussian):
    """A grid with the weights of its density: expectations under it are sums."""

    def draw(self, n, generator=None):
        z = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None, None].expand(-1, *self.loc.shape)
        log_q = self.log_prob(z)
        return Draws(z, log_q, log_q.log_softmax(0))


class Bend(nn.Module):
    """eta = a z + sin z: smooth, and its posterior is no Gaussian."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.slope * z + z.sin()


class Quadrature:
    """All S-tuples of Gauss-Hermite nodes are the batch; ``weight`` sums over them to an expectation over S draws."""

    def __init__(self, draws: int, nodes: int, scale: float = 0.8):
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        grids = np.meshgrid(*[points] * draws, indexing="ij")
        products = np.meshgrid(*[weights / math.sqrt(2 * math.pi)] * draws, indexing="ij")
        self.noise = torch.tensor(np.stack([g.ravel() for g in grids]))[..., None]
        self.weight = torch.tensor(np.prod([p.ravel() for p in products], axis=0))
        self.model = LatentVariableModel(StandardNormal(1), Bend(), Gaussian(1, scale=scale)).double()
        self.x = torch.full((len(self.weight), 1), 0.7, dtype=torch.float64)
        self.batch = batch_of(self.x)
        self.loc = torch.tensor([0.9], dtype=torch.float64, requires_grad=True)
        self.log_scale = torch.tensor([-0.6], dtype=torch.float64, requires_grad=True)

    def posterior(self) -> Given:
        count = len(self.weight)
        return Given(self.loc.expand(count, 1), self.log_scale.expand(count, 1), self.noise)

    def expected(self, objective, samples: int):
        """``E[value]`` and ``E[surrogate]``."""
        bound = objective(self.model, self.posterior(), self.batch, samples)
        return (self.weight * bound.value).sum(), (self.weight * bound.surrogate).sum()

    def gradients(self, objective, samples: int) -> tuple[Tensor, Tensor]:
        """Expected gradients of the surrogate: in the posterior's two parameters, in the model's one."""
        leaves = [self.loc, self.log_scale, self.model.decoder.slope]
        found = torch.autograd.grad(self.expected(objective, samples)[1], leaves)
        return torch.cat([each.reshape(-1) for each in found[:2]]), found[2]

    def one(self) -> Batch:
        return batch_of(self.x[:1])

    def log_evidence(self) -> Tensor:
        z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
        joint = self.model.log_joint(self.x[:1], z[:, None, None])
        return torch.logsumexp(joint[:, 0], 0) + (z[1] - z[0]).log()
