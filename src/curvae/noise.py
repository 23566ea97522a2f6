"""Where draws get their noise: fresh for every example, or the same for all."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from curvae.argument_checks import check_seed


@contextmanager
def keep_random_states() -> Iterator[None]:
    """Random states of Python, NumPy and torch, on the CPU and on GPUs, are afterwards as they were.

    Example:
        >>> import torch
        >>> state = torch.get_rng_state()
        >>> with keep_random_states():
        ...     _ = torch.randn(3)
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cards:
            torch.cuda.set_rng_state_all(cards)
        if apple is not None:
            torch.mps.set_rng_state(apple)


class CommonNoise(torch.Generator):
    """A generator whose noise is the same for every example of a batch.

    What is computed from such draws for one example does not depend on which other data are in its batch, and repeats.
    """


def common_noise(seed: int, device: torch.device | str = "cpu") -> CommonNoise:
    """Noise common to all data, from this seed.

    Raises:
        ValueError: outside [0, 2^32).
    """
    check_seed(seed)
    generator = CommonNoise(device)
    generator.manual_seed(seed)
    return generator


def noise(n: int, like: Float[Tensor, "B D"], generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
    """Standard normal noise, n for each example of ``like``; common to the data where the generator says so.

    Example:
        >>> import torch
        >>> one, two = noise(3, torch.zeros(2, 4), common_noise(0)).unbind(1)
        >>> torch.equal(one, two)
        True
    """
    count, size = like.shape
    rows = 1 if isinstance(generator, CommonNoise) else count
    drawn = torch.randn(n, rows, size, generator=generator, device=like.device, dtype=like.dtype)
    return drawn.expand(n, count, size)


def uniform(like: Float[Tensor, "n B"], generator: torch.Generator | None = None) -> Float[Tensor, "n B"]:
    """Numbers uniform in [0, 1), with the same promise."""
    n, count = like.shape
    rows = 1 if isinstance(generator, CommonNoise) else count
    return torch.rand(n, rows, generator=generator, device=like.device, dtype=like.dtype).expand(n, count)


def gumbel(n: int, like: Float[Tensor, "B D"], generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
    """Standard Gumbel noise, as ``noise``: the largest of ``logits + gumbel`` is a draw of ``softmax(logits)``.

    Example:
        >>> import torch
        >>> f"{gumbel(100_000, torch.zeros(1, 1), common_noise(0)).mean().item():.2f}"   # Euler's constant, 0.577
        '0.58'
    """
    count, size = like.shape
    tiny = torch.finfo(like.dtype).tiny
    u = uniform(like.new_empty(n * size, count), generator).unflatten(0, (n, size)).mT
    return -(-u.clamp(min=tiny).log()).clamp(min=tiny).log()
