"""Mixtures of laws, drawn from stratum by stratum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import NormalPosterior
from curvae.distributions.moments import weighted_interval
from curvae.distributions.posterior import DensityPosterior, Draws, replace_tensors, tensors_of

HALVINGS = 60
"""Bisections for a quantile: 2^-60 of the distance between the components' own quantiles."""

DRAWS = 4000
"""Draws of each component for a quantile where components are not Gaussian."""


@dataclass(frozen=True, eq=False)
class Mixture(DensityPosterior):
    """``Q(z | x) = sum_k pi_k q_k(z | x)`` with ``pi = softmax(logits)``, K components of any kind.

    Draws are stratified: n of *each* component, with ``log_c = log pi_k - log n`` and the mixture's density as
    ``log_q``. So ``sum_s exp(log_c_s) log w_s`` is ``sum_k pi_k E_k[log p(x, z) - log Q(z | x)]``: the choice of a
    component adds no variance, and the gradient reaches the weights through ``log_c``.

    Components that are equal share their weight: the density, the draws and every bound are those without the copies.

    ``labeled`` says that component k stands for a label y = k of z, and not for a shape alone: ``q(y, z | x)``. The law
    of z is the same; its divergence from a prior of as many components is that of (y, z) then, no less than that of z.

    Raises:
        ValueError: no components, or not one logit for each.

    Example:
        >>> import torch
        >>> from curvae.posteriors import DiagonalGaussian
        >>> left, right = (DiagonalGaussian(torch.full((1, 1), m), torch.zeros(1, 1)) for m in (-2.0, 2.0))
        >>> q = Mixture((left, right), torch.tensor([[0.0, 0.0]]))
        >>> q.draw(5).z.shape, q.mean.item(), q.covariance.item()   # 1 within, 4 between
        (torch.Size([10, 1, 1]), 0.0, 5.0)
    """

    components: Sequence[DensityPosterior]
    logits: Float[Tensor, "B K"]
    labeled: bool = False

    def __post_init__(self) -> None:
        if not self.components or self.logits.shape[-1] != len(self.components):
            raise ValueError(
                f"Mixture: expects one logit for each of 1 or more components; got {len(self.components)} components "
                f"and logits of shape {tuple(self.logits.shape)}."
            )

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        parts = (tensors_of(str(k), q).items() for k, q in enumerate(self.components))
        return {"logits": self.logits, **dict(chain.from_iterable(parts))}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Mixture":
        components = (replace_tensors(str(k), q, tensors) for k, q in enumerate(self.components))
        return replace(self, components=tuple(components), logits=tensors["logits"])

    @property
    def free(self) -> tuple[str, ...]:
        return ("logits", *(f"{k}.{name}" for k, q in enumerate(self.components) for name in q.free))

    @property
    def log_weights(self) -> Float[Tensor, "K B"]:
        """``log pi_k``."""
        return self.logits.log_softmax(-1).mT

    def count(self, n: int) -> int:
        return sum(q.count(n) for q in self.components)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        parts = [q.draw(n, generator) for q in self.components]
        z = torch.cat([part.z for part in parts])
        log_c = torch.cat([weight + part.log_c for weight, part in zip(self.log_weights, parts, strict=True)])
        return Draws(z, self.log_prob(z), log_c, _joined(parts))

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        each = torch.stack([q.log_prob(z) for q in self.components])
        return torch.logsumexp(self.log_weights.unsqueeze(1) + each, 0)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """That of the component with the greatest weight: a mean may lie where there is no mass."""
        centers = torch.stack([q.center for q in self.components], dim=1)
        return centers[torch.arange(len(centers), device=centers.device), self.logits.argmax(-1)]

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return torch.einsum("kb,kbd->bd", self.log_weights.exp(), self._means)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        """``sum_k pi_k (C_k + (m_k - m)(m_k - m)')``."""
        offset = self._means - self.mean
        each = torch.stack([q.covariance for q in self.components]) + offset.unsqueeze(-1) * offset.unsqueeze(-2)
        return torch.einsum("kb,kbij->bij", self.log_weights.exp(), each)

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Where the marginal distribution functions reach the two tails; from draws if a component is not Gaussian."""
        if not all(isinstance(q, NormalPosterior) for q in self.components):
            return weighted_interval(self.draw(DRAWS, torch.Generator(self.logits.device).manual_seed(0)), level)
        lows, highs = (torch.stack(ends) for ends in zip(*(q.interval(level) for q in self.components), strict=True))
        half = NormalDist().inv_cdf(0.5 + level / 2)
        scale, tail = (highs - lows) / (2 * half), (1 - level) / 2
        return self._quantile(tail, lows, scale), self._quantile(1 - tail, highs, scale)

    @property
    def _means(self) -> Float[Tensor, "K B D"]:
        return torch.stack([q.mean for q in self.components])

    def _quantile(
        self, mass: float, own: Float[Tensor, "K B D"], scale: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "B D"]:
        """By bisection: the mixture's quantile lies between the least and the greatest of its components'."""
        low, high, means = own.amin(0), own.amax(0), self._means
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = torch.einsum("kb,kbd->bd", self.log_weights.exp(), torch.special.ndtr((middle - means) / scale))
            low, high = torch.where(below < mass, middle, low), torch.where(below < mass, high, middle)
        return 0.5 * (low + high)


def _joined(parts: Sequence[Draws]) -> Float[Tensor, "S B"] | None:
    """The scores of all strata, 0 where a stratum is reparameterized."""
    if all(part.score is None for part in parts):
        return None
    return torch.cat([torch.zeros_like(part.log_q) if part.score is None else part.score for part in parts])
