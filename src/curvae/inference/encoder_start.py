"""Encoders that start at a known posterior."""

import math

import torch
from torch import nn

from curvae.inference.inference import AffinePosterior
from curvae.linalg import soft_unbound
from curvae.networks import linear_capacity, write_affine


def write_posterior(
    encoder: nn.Module,
    posterior: AffinePosterior,
    size: int,
    scales: bool = True,
    zeros: int = 0,
    stretch: float = 0.0,
) -> bool:
    """Make an encoder's first outputs the D means and, behind them, the D log-scales of a posterior, exactly.

    Args:
        encoder: gives means, then log-scales before their soft bound, then whatever its inference takes besides.
        posterior: of the first R latents; the others start at N(0, 1).
        size: D.
        scales: whether there are log-scales.
        zeros: outputs behind them that start at 0; those after these stay as they are.
        stretch: log of what draws are multiplied by later, and the encoder's distribution is therefore divided by.

    Returns:
        Whether the encoder could be written into, see :func:`curvae.networks.linear_capacity`.
    """
    count = len(posterior.inward)
    if not writable(encoder, posterior) or size < count:
        return False
    blank = posterior.inward.new_zeros
    means = math.exp(-stretch) * torch.eye(size, count).to(posterior.inward)
    outward, bias = [means], [blank(size)]
    if scales:
        log_scale = torch.cat([posterior.log_scale, blank(size - count)])
        outward, bias = [*outward, blank(size, count)], [*bias, soft_unbound(log_scale - stretch)]
    outward, bias = [*outward, blank(zeros, count)], [*bias, blank(zeros)]
    write_affine(encoder, posterior.inward, posterior.offset, torch.cat(outward), torch.cat(bias))
    return True


def writable(encoder: nn.Module, posterior: AffinePosterior) -> bool:
    """Whether an encoder could be made to give it."""
    return linear_capacity(encoder) >= max(len(posterior.inward), 1)


def last_layer(network: nn.Module) -> nn.Linear | None:
    """A network's last linear layer; None where it has none."""
    return next((module for module in reversed([*network.modules()]) if isinstance(module, nn.Linear)), None)


def outputs(network: nn.Module) -> int:
    """Number of values of a network's last linear layer; 0 where it has none."""
    return 0 if (last := last_layer(network)) is None else last.out_features
