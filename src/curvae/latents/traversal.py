"""One latent at a time, between two ends, all others as they are: what a decoder makes of each."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

ENDS = (0.025, 0.975)
"""Quantiles between which a latent is moved."""


def traverse_each_latent(
    base: Float[Tensor, " D"], drawn: Float[Tensor, "N D"], latents: Sequence[int], steps: int
) -> Float[Tensor, "L T D"]:
    """Latents that are ``base`` but for one, which goes in equal steps from the 2.5 % to the 97.5 % quantile of draws.

    Args:
        base: where all others are.
        drawn: of the law whose range it is.
        latents: those that are moved, one after the other.
        steps: T, values of each.

    Example:
        >>> drawn = torch.linspace(-1, 1, 201).repeat(2, 1).mT
        >>> traverse_each_latent(torch.zeros(2), drawn, [1], 3)[0]
        tensor([[ 0.0000, -0.9500],
                [ 0.0000,  0.0000],
                [ 0.0000,  0.9500]])
    """
    low, high = torch.quantile(drawn[:, list(latents)], torch.tensor(ENDS).to(drawn), dim=0)
    z = base.expand(len(latents), steps, -1).clone()
    for row, latent in enumerate(latents):
        z[row, :, latent] = low[row] + (high[row] - low[row]) * torch.linspace(0, 1, steps).to(base)
    return z
