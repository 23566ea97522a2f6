"""The standard logistic prior."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from curvae.argument_checks import check_least
from curvae.priors.prior import Prior


class StandardLogistic(Prior):
    """``log p(z) = -sum_i softplus(z_i) + softplus(-z_i)``, independent, of variance ``pi^2 / 3``.

    Its tails are heavier than a normal's. ``-d2 log p / dz2 = 2 s(z) s(-z)``, with the logistic function s.

    Args:
        size: number of dimensions D.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> prior = StandardLogistic(2)
        >>> f"{prior.log_prob(torch.zeros(2)):.4f}"             # -2 log 4
        '-2.7726'
        >>> prior.sample(5).shape
        torch.Size([5, 2])
    """

    DEVIATION = math.pi / math.sqrt(3)
    origin: Tensor

    def __init__(self, size: int):
        super().__init__()
        check_least("StandardLogistic", 1, size=size)
        self.blocks = (size,)
        self.register_buffer("origin", torch.zeros(size), persistent=False)

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return -(softplus(z) + softplus(-z)).sum(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        u = torch.rand(n, self.size, generator=generator, device=self.origin.device, dtype=self.origin.dtype)
        return torch.logit(u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps))

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return -torch.tanh(0.5 * z)

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        return torch.diag_embed(2 * torch.sigmoid(z) * torch.sigmoid(-z))
