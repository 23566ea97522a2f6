"""What a system with a decoder of pixels is made of: one that also sees the pixels before each."""

from math import prod

from curvae.likelihoods import Categorical, Likelihood
from curvae.networks import MLP, MaskedDecoder
from curvae.objectives import MutualDivergence, Objective, SoftFreeBits
from curvae.systems.parts import elbo_with_warmup, encoder_front
from curvae.typing import DataSpec

MAPS = 4
"""Maps of the size of a picture that a decoder makes of the latents."""


def picture_event(who: str, spec: DataSpec) -> tuple[int, int, int]:
    """Channels, height and width of what a system of pictures is given.

    Raises:
        ValueError: data of another shape.
    """
    if len(spec.event) != 3:
        raise ValueError(
            f"{who}: expects pictures, (channels, height, width), as its decoder sees the pixels before each one; got "
            f"data of shape {tuple(spec.event)}. Take another system, vae for one."
        )
    channels, height, width = spec.event
    return channels, height, width


def window_within(window: int | None, event: tuple[int, int, int]) -> int:
    """The window in pixels, no wider than a picture; all that came before if None."""
    most = max(event[1:]) - 1
    return most if window is None else min(window, most)


def pixel_decoder(
    spec: DataSpec,
    likelihood: Likelihood,
    latent: int,
    hidden: list[int],
    kernels: list[int],
    channels: int,
) -> MaskedDecoder:
    """A decoder of these masked convolutions; the network of z, ReLU layers of these widths, can start linear.

    Raises:
        ValueError: a likelihood of other data; see :class:`curvae.networks.MaskedDecoder`.
    """
    event = picture_event("decoder", spec)
    if likelihood.event != event:
        raise ValueError(f"likelihood: expected one of data of shape {event}, as there are; got {likelihood.event}.")
    network = MLP(latent, hidden, likelihood.size + MAPS * prod(event[1:]))
    categories = likelihood.categories if isinstance(likelihood, Categorical) else 1
    outputs = likelihood.size // prod(event)
    return MaskedDecoder(network, event, kernels, channels, MAPS, outputs, categories, encoder_front(spec))


def lossy_objective(free_bits: float, diversity: float, smoothness: float, warmup: int) -> Objective:
    """The ELBO, or what keeps latents in use: soft free bits, or mutual divergence with free bits.

    Raises:
        ValueError: a warmup beside either.
    """
    kept = (diversity or smoothness, free_bits)
    if warmup and any(kept):
        raise ValueError(
            f"kl_warmup: expected 0 beside free_bits, diversity or smoothness; got {warmup}, a second weight of the "
            "divergence."
        )
    if diversity or smoothness:
        return MutualDivergence(diversity, smoothness, free_bits)
    return SoftFreeBits(free_bits) if free_bits else elbo_with_warmup(warmup)
