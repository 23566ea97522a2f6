"""Draws of equal weight from any posterior: independent ones, where each could be the true latent."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from curvae.posteriors import Posterior


def equally_weighted(posterior: Posterior, count: int, generator: Generator) -> Float[Tensor, "S B D"]:
    """``count`` draws of equal weight: one of each round by its weight.

    A mixture gives ``count`` draws of each component, one after another: the i-th of each are a round. Any other draws
    of unequal weight are a single round, of which the same may be taken twice.

    Example:
        >>> from curvae.posteriors import DiagonalGaussian, Mixture
        >>> left, right = (DiagonalGaussian(torch.full((4, 1), m), torch.zeros(4, 1)) for m in (-9.0, 9.0))
        >>> q = Mixture((left, right), torch.tensor([[0.0, 0.0]]).expand(4, 2))
        >>> equally_weighted(q, 50, Generator()).shape
        torch.Size([50, 4, 1])
    """
    found = posterior.draw(count, generator)
    rounds = _rounds(found.log_c, count)
    chosen = torch.multinomial(rounds[:, 0].exp().mT, count, replacement=True, generator=generator).mT
    each = torch.arange(count, device=chosen.device) % rounds.shape[1]
    rows = chosen * rounds.shape[1] + each[:, None]
    return found.z.gather(0, rows.unsqueeze(-1).expand(-1, -1, found.z.shape[-1]))


def _rounds(log_c: Float[Tensor, "S B"], count: int) -> Float[Tensor, "K N B"]:
    """K draws for each of N rounds: ``count`` rounds if their weights are the same, else 1."""
    if len(log_c) % count == 0:
        rounds = log_c.unflatten(0, (-1, count))
        if bool((rounds == rounds[:, :1]).all()):
            return rounds
    return log_c.unsqueeze(1)
