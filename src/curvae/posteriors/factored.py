"""A posterior of independent layers, each of a family of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.noise import noise
from curvae.posteriors.posterior import DensityPosterior, Draws, plain
from curvae.priors import Family


@dataclass(frozen=True, eq=False)
class ProductPosterior(DensityPosterior):
    """``q(z | x) = prod_k q_k(z_k; phi_k)``: the parameters phi of all layers in one tensor, the top layer first.

    Where a layer is discrete its draws have no path gradient, and ``Draws.score`` is its log-probability.

    Example:
        >>> import torch
        >>> from curvae.priors import LearnedNormal, OneHot
        >>> q = ProductPosterior((OneHot(1, 2), LearnedNormal(3)), torch.zeros(4, 2 + 6))
        >>> q.draw(5).z.shape, q.mean[0].tolist()
        (torch.Size([5, 4, 5]), [0.5, 0.5, 0.0, 0.0, 0.0])
    """

    families: tuple[Family, ...]
    parameters: Float[Tensor, "B Q"]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {"parameters": self.parameters}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "ProductPosterior":
        return replace(self, parameters=tensors["parameters"])

    @property
    def continuous(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every layer is."""
        return all(family.continuous for family in self.families)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """The most probable value."""
        return torch.cat([family.mode(phi) for family, phi in self._layers], dim=-1)

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return torch.cat([family.mean(phi) for family, phi in self._layers], dim=-1)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        blocks = [family.covariance(phi) for family, phi in self._layers]
        size, start = sum(block.shape[-1] for block in blocks), 0
        padded = []
        for block in blocks:
            after = size - start - block.shape[-1]
            padded.append(torch.nn.functional.pad(block, (start, after, start, after)))
            start += block.shape[-1]
        return torch.stack(padded).sum(0)

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        lows, highs = zip(*(family.interval(phi, level) for family, phi in self._layers), strict=True)
        return torch.cat(lows, dim=-1), torch.cat(highs, dim=-1)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        parts = noise(n, self.mean, generator).split(self._sizes, dim=-1)
        layers = zip(parts, self._layers, strict=True)
        drawn = [family.sample(part, phi.expand(n, -1, -1)) for part, (family, phi) in layers]
        each = self._each(drawn)
        discrete = [log_q for log_q, family in zip(each, self.families, strict=True) if not family.continuous]
        score = torch.stack(discrete).sum(0) if discrete else None
        return plain(torch.cat(drawn, dim=-1), torch.stack(each).sum(0))._replace(score=score)

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        return torch.stack(self._each(z.split(self._sizes, dim=-1))).sum(0)

    def _each(self, parts: list[Tensor] | tuple[Tensor, ...]) -> list[Float[Tensor, "S B"]]:
        layers = zip(parts, self._layers, strict=True)
        return [family.log_prob(part, phi.expand(*part.shape[:-1], -1)) for part, (family, phi) in layers]

    @property
    def _sizes(self) -> list[int]:
        return [family.size for family in self.families]

    @property
    def _layers(self) -> list[tuple[Family, Float[Tensor, "B _"]]]:
        widths = [family.parameters for family in self.families]
        return list(zip(self.families, self.parameters.split(widths, dim=-1), strict=True))
