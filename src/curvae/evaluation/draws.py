"""What measures by draws have in common: a system that stays as it was, and draws of equal weight."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from curvae.argument_checks import check_seed
from curvae.posteriors import Posterior
from curvae.systems import System
from curvae.systems.device import device_and_dtype, evaluating


@contextmanager
def seeded_evaluation(system: System, seed: int) -> Iterator[Generator]:
    """Evaluation mode, no gradients, a fixed seed; afterwards modes and torch's generators are as they were.

    Gives a generator with that seed, where the system is.

    Raises:
        ValueError: a seed outside [0, 2^32).
    """
    check_seed(seed)
    device = device_and_dtype(system)[0]
    with evaluating(system), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield Generator(device).manual_seed(seed)


def in_parts(count: int, most: int) -> list[int]:
    """``count`` in parts of ``most``, the last of what is left.

    >>> in_parts(5, 2)
    [2, 2, 1]
    """
    return [min(most, count - begin) for begin in range(0, count, most)]


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
