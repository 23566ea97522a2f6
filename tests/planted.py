"""Two models whose posterior is known, and faults planted in it: what every check of a posterior has to tell apart."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from curvae.inference import Inference, Inferred
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.posteriors import Mixture, PrecisionGaussian
from curvae.priors import Prior
from curvae.systems import LatentSystem
from curvae.typing import Batch

MEANS = {"gaussian": [[0.0, 0.0]], "bimodal": [[-1.5, 0.0], [1.5, 0.0]]}
"""Of the prior's components, of equal weight."""
SCALES = {"gaussian": [1.0, 1.0], "bimodal": [0.5, 1.0]}
"""Their standard deviations."""
WEIGHTS = {
    "gaussian": [[1.2, 0.8], [0.8, 1.2], [0.3, -0.2], [0.2, 0.5]],
    "bimodal": [[0.3, 0.2], [0.2, 0.8], [0.0, 0.3], [0.1, 0.4]],
}
"""x = W z + noise of deviation 1: four numbers of two latents."""


class Components(Prior):
    """``mean_k N(m_k, diag(s^2))``: one component at 0, or one on either side of it."""

    means: Tensor
    scale: Tensor

    def __init__(self, means: Tensor, scale: Tensor):
        super().__init__()
        self.blocks = (means.shape[1],)
        self.register_buffer("means", means)
        self.register_buffer("scale", scale)

    def log_prob(self, z: Tensor) -> Tensor:
        each = Normal(self.means, self.scale).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(each, -1) - math.log(len(self.means))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        which = torch.randint(len(self.means), (n,), generator=generator)
        return self.means[which] + self.scale * torch.randn(n, self.size, generator=generator, dtype=self.means.dtype)

    def precision(self, z: Tensor) -> Tensor:
        return self.scale.pow(-2).diag().expand(*z.shape, z.shape[-1])


class Moments(NamedTuple):
    """Of the K Gaussian components of a law."""

    mean: Tensor
    """(K, B, D)"""
    covariance: Tensor
    """(K, B, D, D)"""
    log_weight: Tensor
    """(K, B)"""


@dataclass(frozen=True)
class Fault:
    """What q has of the posterior, component by component; as it stands, all of it."""

    variance: float = 1.0
    """In that of the posterior."""
    shift: float = 0.0
    """Of the mean of each latent, in standard deviations."""
    correlation: float = 1.0
    """Between latents, in that of the posterior."""
    modes: str = "all"
    """Or the "heavier" one alone, or "one" Gaussian with the mean and the covariance of both."""
    prior: bool = False
    """The prior in place of the posterior."""
    local: bool = False
    """Only where the first number of x is above 0, its median."""


FAULTS: dict[str, tuple[str, Fault]] = {
    "none, one mode": ("gaussian", Fault()),
    "none, two modes": ("bimodal", Fault()),
    "too narrow": ("gaussian", Fault(variance=1 / 1.4)),
    "too wide": ("gaussian", Fault(variance=1.4)),
    "shifted": ("gaussian", Fault(shift=0.3)),
    "rotated": ("gaussian", Fault(correlation=0.0)),
    "one Gaussian for two modes": ("bimodal", Fault(modes="one")),
    "a mode missed": ("bimodal", Fault(modes="heavier")),
    "the prior": ("gaussian", Fault(prior=True)),
    "too narrow where x is large": ("gaussian", Fault(variance=0.5, local=True)),
}
"""By name: the model, and what is wrong with q. The first two are right."""


class Planted(Inference):
    """The exact posterior of a linear model under a prior of Gaussian components, with a fault."""

    def __init__(self, fault: Fault):
        super().__init__()
        self.fault = fault

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        right = posterior(model, batch.x)
        wrong = planted(prior(model, batch.x) if self.fault.prior else right, self.fault)
        if self.fault.local:
            where = [(batch.x[:, 0] > 0).reshape(1, -1, *[1] * (each.ndim - 2)) for each in right]
            wrong = Moments(*(torch.where(*each) for each in zip(where, wrong, right, strict=True)))
        return Inferred(law(wrong))


def system(name: str) -> LatentSystem:
    """A model with the posterior that has this fault."""
    kind, fault = FAULTS[name]
    decoder = nn.Linear(2, 4).double()
    decoder.weight.data, decoder.bias.data = torch.tensor(WEIGHTS[kind]).double(), torch.zeros(4).double()
    components = Components(torch.tensor(MEANS[kind]).double(), torch.tensor(SCALES[kind]).double())
    return LatentSystem(LatentVariableModel(components, decoder, Gaussian(4)).double(), Planted(fault), elbo)


def posterior(model: LatentVariableModel, x: Tensor) -> Moments:
    """``p(z | x)`` for x = W z + N(0, I), exactly."""
    p, w = model.prior, model.decoder.weight
    covariance = torch.linalg.inv(p.scale.pow(-2).diag() + w.mT @ w)
    mean = (x @ w + (p.means / p.scale**2).unsqueeze(1)) @ covariance
    seen = MultivariateNormal(p.means @ w.mT, w @ (p.scale**2).diag() @ w.mT + torch.eye(len(w)).to(w))
    log_weight = seen.log_prob(x.unsqueeze(1)).mT.log_softmax(0)
    return Moments(mean, covariance.expand(*mean.shape, -1), log_weight)


def prior(model: LatentVariableModel, x: Tensor) -> Moments:
    """``p(z)``, for every datum."""
    p, shape = model.prior, (len(model.prior.means), len(x))
    mean = p.means.unsqueeze(1).expand(*shape, -1)
    return Moments(mean, (p.scale**2).diag().expand(*shape, -1, -1), mean.new_zeros(shape).log_softmax(0))


def planted(right: Moments, fault: Fault) -> Moments:
    """A law with a fault."""
    mean, covariance, log_weight = right
    deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    keep = fault.correlation + (1 - fault.correlation) * torch.eye(mean.shape[-1]).to(mean)
    found = Moments(mean + fault.shift * deviation, fault.variance * covariance * keep, log_weight)
    return {"all": same, "heavier": heavier, "one": matched}[fault.modes](found)


def same(found: Moments) -> Moments:
    return found


def heavier(found: Moments) -> Moments:
    """The component of the greatest weight alone."""
    which = found.log_weight.argmax(0), torch.arange(found.log_weight.shape[1])
    return Moments(found.mean[which][None], found.covariance[which][None], torch.zeros_like(found.log_weight[:1]))


def matched(found: Moments) -> Moments:
    """One Gaussian with the mean and the covariance of all."""
    weight = found.log_weight.exp()[..., None]
    mean = (weight * found.mean).sum(0)
    apart = found.mean - mean
    spread = (weight[..., None] * (found.covariance + apart[..., None] * apart[..., None, :])).sum(0)
    return Moments(mean[None], spread[None], torch.zeros_like(found.log_weight[:1]))


def law(found: Moments) -> PrecisionGaussian | Mixture:
    """As a posterior."""
    factor = torch.linalg.cholesky(torch.linalg.inv(found.covariance))
    parts = [PrecisionGaussian(*each) for each in zip(found.mean, factor, strict=True)]
    return parts[0] if len(parts) == 1 else Mixture(tuple(parts), found.log_weight.mT)
