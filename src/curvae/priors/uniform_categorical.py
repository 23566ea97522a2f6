"""The uniform prior over discrete latents."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.discrete_posteriors import DiscretePosterior, one_hot
from curvae.distributions.kl import register_kl
from curvae.priors.prior import Prior


class UniformCategorical(Prior):
    """N independent variables, each one of K categories with probability 1 / K; z is one-hot, flat: ``D = N K``.

    ``log p(z) = -N log K`` for every z of that kind, and -inf for any other. It has no slope and no curvature.

    Args:
        variables: N.
        categories: K.

    Raises:
        ValueError: fewer than 1 variable or 2 categories; in use, a score or a precision asked for.

    Example:
        >>> import torch
        >>> prior = UniformCategorical(variables=2, categories=3)
        >>> z = prior.sample(1)
        >>> z.sum().item(), f"{prior.log_prob(z).item():.4f}", prior.log_prob(0.5 * z).item()   # -2 log 3
        (2.0, '-2.1972', -inf)
    """

    continuous = False
    origin: Tensor

    def __init__(self, variables: int, categories: int):
        super().__init__()
        if variables < 1 or categories < 2:
            raise ValueError(
                f"UniformCategorical: expects 1 or more variables of 2 or more categories; got {variables} of "
                f"{categories}."
            )
        self.variables = variables
        self.categories = categories
        self.blocks = (variables * categories,)
        self.register_buffer("origin", torch.zeros(self.size), persistent=False)

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        each = z.unflatten(-1, (self.variables, self.categories))
        proper = ((each == 0) | (each == 1)).flatten(-2).all(-1) & (each.sum(-1) == 1).all(-1)
        level = torch.full_like(z[..., 0], -self.variables * math.log(self.categories))
        return torch.where(proper, level, -math.inf)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        where = torch.randint(self.categories, (n, self.variables), generator=generator, device=self.origin.device)
        return one_hot(where, self.categories, self.origin)

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        raise ValueError("UniformCategorical: discrete latents have no precision; use an inference that takes none.")


@register_kl(DiscretePosterior, UniformCategorical)
def _(q: DiscretePosterior, p: UniformCategorical) -> Float[Tensor, "B 1"]:
    """``N log K - entropy``."""
    return (p.variables * math.log(p.categories) - q.entropy).unsqueeze(-1)
