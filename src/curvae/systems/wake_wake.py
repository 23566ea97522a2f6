"""Reweighted wake-wake."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import WakePhi
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_system
from curvae.typing import DataSpec


@register("wake-wake", "objective")
def wake_wake(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    samples: int = 5,
    doubly: bool = False,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Wake-wake: the decoder ascends the importance-weighted bound, the encoder covers the posterior's mass.

    Reference: the wake phases of reweighted wake-sleep, as in Tucker, Lawson, Gu and Maddison, ICLR 2019.

    Args:
        samples: draws per example.
        doubly: reparameterize the encoder's gradient: less noise, where draws have path gradients.

    Example:
        >>> wake_wake(DataSpec((64,)), latent=2, hidden=32).kind
        'none'
    """
    return standard_system(spec, latent, hidden, depth, WakePhi(doubly), samples, encoder, decoder, likelihood, start)
