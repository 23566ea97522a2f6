"""A prior of several layers, each with a distribution that the layer above decides."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.distributions.conditional import ConditionalDistribution, FixedNormal, LayerLaw
from curvae.distributions.kl import kl
from curvae.distributions.product import ProductPosterior
from curvae.priors.prior import Prior
from curvae.priors.standard_normal import StandardNormal


class Layered(Prior):
    """``p(z) = p(z_1) prod_k p(z_k | phi_k = f_{k-1}(z_{k-1}))``, the top layer first; each layer has a family.

    ``z = (z_1, ..., z_L)``; the decoder that goes with it sees the last layer, :class:`curvae.networks.LastBlock`. The
    precision is the Gauss-Newton one: the Hessian of ``-log p(z)`` where families are fixed normals and the maps
    piecewise linear, else its expectation over each layer given the one above, without the maps' curvature.

    Args:
        families: one for each of L layers.
        maps: L - 1 modules f, from a layer (N, size) to the parameters of the next one's family.

    Raises:
        ValueError: not one map between each layer and the next.

    Example:
        >>> import torch
        >>> prior = Layered([FixedNormal(2), FixedNormal(3)], [torch.nn.Linear(2, 3)])
        >>> prior.blocks, prior.sample(4).shape, prior.precision(torch.zeros(4, 5)).shape
        ((2, 3), torch.Size([4, 5]), torch.Size([4, 5, 5]))
    """

    top: Tensor

    def __init__(self, families: Sequence[ConditionalDistribution], maps: Sequence[nn.Module] = ()):
        super().__init__()
        if not families or len(maps) != len(families) - 1:
            raise ValueError(
                f"Layered: expects 1 or more families and one map between each and the next; got {len(families)} "
                f"families and {len(maps)} maps."
            )
        self.families = tuple(families)
        self.maps = nn.ModuleList(maps)
        self.blocks = tuple(family.size for family in self.families)
        self.continuous = all(family.continuous for family in self.families)
        self.register_buffer("top", torch.zeros(self.families[0].parameters), persistent=False)

    @property
    def widths(self) -> list[int]:
        """How many parameters each layer has."""
        return [family.parameters for family in self.families]

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        parts = z.split(self.blocks, dim=-1)
        each = zip(self._predicted(parts), parts, strict=True)
        return torch.stack([law.log_prob(part) for law, part in each]).sum(0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        noise = torch.randn(n, self.size, generator=generator, device=self.top.device, dtype=self.top.dtype)
        drawn: list[Tensor] = []
        for k, (family, part) in enumerate(zip(self.families, noise.split(self.blocks, dim=-1), strict=True)):
            phi = self.maps[k - 1](drawn[-1]) if k else self.top.expand(n, -1)
            drawn.append(family(phi).from_noise(part))
        return torch.cat(drawn, dim=-1)

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        rows = z.reshape(-1, self.size)
        jacobian = torch.func.vmap(torch.func.jacfwd(self._residual, argnums=0))(rows, rows)
        return (jacobian.mT @ jacobian).unflatten(0, z.shape[:-1])

    def prediction(self, count: int) -> Float[Tensor, "count Q"]:
        """Parameters of every layer where each is what the mean of the one above predicts."""
        phi = [self.top.expand(count, -1)]
        for family, on in zip(self.families, self.maps, strict=False):
            phi.append(on(family(phi[-1]).mean))
        return torch.cat(phi, dim=-1)

    def divergences(self, q: ProductPosterior) -> Float[Tensor, "B L"]:
        """``KL(q_k || p(z_k | f_{k-1}(mean_{k-1})))`` of each layer, nats."""
        mine = q.laws
        above = self._predicted([law.mean for law in mine])
        return torch.cat([cast(Tensor, kl(one, other)) for one, other in zip(mine, above, strict=True)], dim=-1)

    def _predicted(self, parts: Sequence[Float[Tensor, "*B _"]]) -> Iterator[LayerLaw]:
        """The law of each layer, given the values of the one above."""
        lead = parts[0].shape[:-1]
        yield self.families[0](self.top.expand(*lead, -1))
        for family, on, part in zip(self.families[1:], self.maps, parts, strict=False):
            phi = on(part.reshape(-1, part.shape[-1]))
            yield family(phi.reshape(*lead, phi.shape[-1]))

    def _residual(self, z: Float[Tensor, " D"], at: Float[Tensor, " D"]) -> Float[Tensor, " R"]:
        parts, fixed = (value.unsqueeze(0).split(self.blocks, dim=-1) for value in (z, at))
        layers = zip(self._predicted(parts), parts, self._predicted(fixed), strict=True)
        return torch.cat([law.residual(part, at=held)[0] for law, part, held in layers])  # pyright: ignore[reportArgumentType]


def layered(prior: Prior) -> Layered:
    """The prior as layers: a standard normal is a single one.

    Raises:
        ValueError: another prior, which has none.
    """
    match prior:
        case Layered():
            return prior
        case StandardNormal():
            return Layered([FixedNormal(prior.size)]).to(prior.origin)
        case _:
            raise ValueError(f"expected a Layered prior or a StandardNormal; got {type(prior).__name__}.")
