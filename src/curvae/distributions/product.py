"""Product laws: independent layers, each with a conditional law of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.conditional import ConditionalDistribution, LayerLaw
from curvae.distributions.posterior import DensityPosterior, Draws, ParametricPosterior
from curvae.noise import noise


@dataclass(frozen=True, eq=False)
class ProductPosterior(ParametricPosterior, DensityPosterior):
    """``q(z | x) = prod_k q_k(z_k; phi_k)``: the parameters phi of all layers in one tensor, the top layer first.

    Where a layer is discrete its draws have no path gradient, and ``Draws.score`` is its log-probability.

    Example:
        >>> import torch
        >>> from curvae.distributions import LearnedNormal, OneHot
        >>> q = ProductPosterior((OneHot(1, 2), LearnedNormal(3)), torch.zeros(4, 2 + 6))
        >>> q.draw(5).z.shape, q.mean[0].tolist()
        (torch.Size([5, 4, 5]), [0.5, 0.5, 0.0, 0.0, 0.0])
    """

    names = ("parameters",)
    families: tuple[ConditionalDistribution, ...]
    parameters: Float[Tensor, "B Q"]

    @property
    def continuous(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every layer is."""
        return all(family.continuous for family in self.families)

    @property
    def laws(self) -> list[LayerLaw]:
        """The law of each layer."""
        return laws(self.families, self.parameters)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """The most probable value."""
        return torch.cat([law.center for law in self.laws], dim=-1)

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return torch.cat([law.mean for law in self.laws], dim=-1)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        blocks = [law.covariance for law in self.laws]
        size, start = sum(block.shape[-1] for block in blocks), 0
        padded = []
        for block in blocks:
            after = size - start - block.shape[-1]
            padded.append(torch.nn.functional.pad(block, (start, after, start, after)))
            start += block.shape[-1]
        return torch.stack(padded).sum(0)

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        lows, highs = zip(*(law.interval(level) for law in self.laws), strict=True)
        return torch.cat(lows, dim=-1), torch.cat(highs, dim=-1)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        every = self.laws
        parts = noise(n, self.mean, generator).split(self._sizes, dim=-1)
        drawn = [law.from_noise(part) for law, part in zip(every, parts, strict=True)]
        each = [law.log_prob(part) for law, part in zip(every, drawn, strict=True)]
        discrete = [log_q for law, log_q in zip(every, each, strict=True) if not law.continuous]
        score = torch.stack(discrete).sum(0) if discrete else None
        return Draws.iid(torch.cat(drawn, dim=-1), torch.stack(each).sum(0), score)

    def log_prob(self, z: Float[Tensor, "*S D"]) -> Float[Tensor, "*S"]:
        parts = zip(self.laws, z.split(self._sizes, dim=-1), strict=True)
        return torch.stack([law.log_prob(part) for law, part in parts]).sum(0)

    @property
    def _sizes(self) -> list[int]:
        return [family.size for family in self.families]


def laws(families: Sequence[ConditionalDistribution], phi: Float[Tensor, "*B Q"]) -> list[LayerLaw]:
    """The law of each layer, by the parameters of all layers."""
    parts = phi.split([family.parameters for family in families], dim=-1)
    return [family(part) for family, part in zip(families, parts, strict=True)]
