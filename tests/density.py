"""Systems without latents: a full-covariance Gaussian that knows its density, and one that knows nothing of p(x)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from curvae.objectives import Bound
from curvae.systems import Stage, System, register
from curvae.systems.base import SYSTEMS
from curvae.typing import Batch, DataSpec


class ToyDensity(System):
    """``N(mean, L L')`` with a learned mean and factor: log p(x), samples and what is missing in closed form."""

    evidence = "exact"

    def __init__(self, event: tuple[int, ...]):
        super().__init__()
        self.event, size = event, torch.Size(event).numel()
        self.mean, self.packed = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size, size))

    @property
    def factor(self) -> Tensor:
        return self.packed.tril(-1) + self.packed.diagonal().exp().diag()

    def bound(self, batch: Batch) -> Bound:
        value = self.log_prob(batch.x, batch.mask)
        return Bound(value, value)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """A missing element is given the variance 1, no covariance and no error, and its own density taken off."""
        x = x.flatten(1)
        seen = torch.ones_like(x) if mask is None else mask.flatten(1).to(x.dtype)
        both = seen.unsqueeze(1) * seen.unsqueeze(2)
        covariance = both * (self.factor @ self.factor.mT) + torch.diag_embed(1 - seen)
        law = torch.distributions.MultivariateNormal(torch.zeros_like(self.mean), covariance)
        return law.log_prob(seen * (x - self.mean)) + (1 - seen).sum(1) * 0.5 * torch.log(torch.tensor(2 * torch.pi))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(n, len(self.mean), generator=generator)
        return (self.mean + noise @ self.factor.mT).reshape(n, *self.event)

    def impute(self, x: Tensor, mask: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """A draw of everything, moved by what it missed of what was observed (Matheron's rule)."""
        seen, covariance = mask.flatten(1).to(x.dtype), self.factor @ self.factor.mT
        observed = seen.unsqueeze(1) * seen.unsqueeze(2) * covariance + torch.diag_embed(1 - seen)
        drawn = self.sample(n * len(x), generator).reshape(n, len(x), -1)
        missed = (seen * (x.flatten(1) - drawn)).unsqueeze(-1)
        moved = drawn + (covariance @ (seen.unsqueeze(-1) * torch.linalg.solve(observed, missed))).squeeze(-1)
        return torch.where(mask, x, moved.reshape(n, *x.shape))


class Pull(System):
    """Pulls a center to the data: no density, no samples, no latents."""

    evidence = "none"

    def __init__(self, event: tuple[int, ...]):
        super().__init__()
        self.center = nn.Parameter(torch.zeros(event))

    def bound(self, batch: Batch) -> Bound:
        surrogate = -(batch.x - self.center).flatten(1).square().sum(1)
        return Bound(torch.full_like(surrogate, torch.nan), surrogate)

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("train", monitor="surrogate"),)


def toy_density(spec: DataSpec) -> ToyDensity:
    """Full-covariance Gaussian density.

    Args:
        spec: shape of the data.
    """
    return ToyDensity(spec.event)


def pull(spec: DataSpec) -> Pull:
    """A center, and nothing else.

    Args:
        spec: shape of the data.
    """
    return Pull(spec.event)


@contextmanager
def registered(name: str, build: Callable[..., System]) -> Iterator[Callable[..., System]]:
    """The function under a name, for a while."""
    made = register(name)(build)
    try:
        yield made
    finally:
        del SYSTEMS[name]
