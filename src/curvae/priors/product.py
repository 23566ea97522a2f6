"""Independent priors over the blocks of z."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.distributions.gaussian import DiagonalGaussian
from curvae.distributions.kl import kl, register_kl
from curvae.distributions.mixture import Mixture
from curvae.priors.mixture import MixturePrior
from curvae.priors.prior import Prior, StartsAtEncoded


class ProductPrior(Prior):
    """``p(z) = prod_l p_l(z_l)``: a prior of its own for each block of z.

    Args:
        factors: the priors, in the order of z.

    Raises:
        ValueError: none given.

    Example:
        >>> from curvae.priors import MixturePrior, StandardNormal
        >>> prior = ProductPrior([StandardNormal(3), MixturePrior(2, components=4)])
        >>> prior.blocks, prior.sample(5).shape, prior.precision(torch.zeros(5, 5)).shape
        ((3, 2), torch.Size([5, 5]), torch.Size([5, 5, 5]))
    """

    def __init__(self, factors: Sequence[Prior]):
        super().__init__()
        if not factors:
            raise ValueError("ProductPrior: expects 1 or more priors; got none.")
        self.factors: Sequence[Prior] = nn.ModuleList(factors)  # pyright: ignore[reportAttributeAccessIssue]
        self.blocks = tuple(factor.size for factor in factors)
        self.continuous = all(factor.continuous for factor in factors)
        self.quadratic = all(factor.quadratic for factor in factors)

    def parts(self, z: Float[Tensor, "*B D"]) -> list[tuple[Prior, Tensor]]:
        """Each prior with its block of z."""
        return list(zip(self.factors, z.split(self.blocks, -1), strict=True))

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return torch.stack([prior.log_prob(part) for prior, part in self.parts(z)]).sum(0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        return torch.cat([prior.sample(n, generator) for prior in self.factors], -1)

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return torch.cat([prior.score(part) for prior, part in self.parts(z)], -1)

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        rows, before = [], 0
        for prior, part in self.parts(z):
            after = self.size - before - prior.size
            rows.append(nn.functional.pad(prior.precision(part), (before, after)))
            before += prior.size
        return torch.cat(rows, -2)

    def start_at(self, x: Float[Tensor, "N *event"], q: DiagonalGaussian) -> None:
        """Each factor that starts there, at its block of the posteriors."""
        for factor, part in zip(self.factors, _blocks(q, self.blocks), strict=True):
            if isinstance(factor, StartsAtEncoded):
                factor.start_at(x, part)


@register_kl(DiagonalGaussian, ProductPrior)
def _(q: DiagonalGaussian, p: ProductPrior) -> Float[Tensor, "*B L"] | None:
    """Of each block, where all are closed."""
    return _each_block(q, p.factors, p.blocks)


@register_kl(Mixture, ProductPrior)
def _labeled(q: Mixture, p: ProductPrior) -> Float[Tensor, "B L"] | None:
    """Of z and its label y, the component of the one block that has some: both sums over y are exact.

    ``sum_c q(y = c | x) (KL(q(z | x, c) || p(z | c)) + log q(y = c | x) - log p(y = c))``; closed for a labeled mixture
    of as many diagonal Gaussians.
    """
    mixed = [factor for factor in p.factors if isinstance(factor, MixturePrior)]
    if not q.labeled or len(mixed) != 1 or len(mixed[0].logits) != len(q.components):
        return None
    prior, each = mixed[0], []
    for c, law in enumerate(q.components):
        given = [prior.component(c) if factor is prior else factor for factor in p.factors]
        spent = _each_block(law, given, p.blocks) if isinstance(law, DiagonalGaussian) else None
        if spent is None:
            return None
        each.append(spent)
    log_q = q.log_weights
    label = (log_q.exp() * (log_q - prior.logits.log_softmax(-1).unsqueeze(-1))).sum(0)
    where = torch.tensor([float(factor is prior) for factor in p.factors]).to(label)
    return torch.einsum("cb,cbl->bl", log_q.exp(), torch.stack(each)) + label.unsqueeze(-1) * where


def _each_block(
    q: DiagonalGaussian, laws: Iterable[Prior | DiagonalGaussian], blocks: tuple[int, ...]
) -> Float[Tensor, "*B L"] | None:
    each = [kl(part, law) for part, law in zip(_blocks(q, blocks), laws, strict=True)]
    closed = [one for one in each if one is not None]
    return torch.cat([one.sum(-1, keepdim=True) for one in closed], -1) if len(closed) == len(each) else None


def _blocks(q: DiagonalGaussian, blocks: tuple[int, ...]) -> list[DiagonalGaussian]:
    locs, scales = q.loc.split(blocks, -1), q.log_scale.split(blocks, -1)
    return [DiagonalGaussian(loc, scale) for loc, scale in zip(locs, scales, strict=True)]
