"""Encoders that start at a known posterior."""

import torch
from torch import nn

from curvae.inference.inference import AffinePosterior
from curvae.linalg import soft_unbound
from curvae.networks import carried, write_affine


def write_posterior(
    encoder: nn.Module, posterior: AffinePosterior, size: int, scales: bool = True, zeros: int = 0
) -> bool:
    """Make an encoder's first outputs the D means and, behind them, the D log-scales of a posterior, exactly.

    Args:
        encoder: gives means, then log-scales before their soft bound, then whatever its inference takes besides.
        posterior: of the first R latents; the others start at N(0, 1).
        size: D.
        scales: whether there are log-scales.
        zeros: outputs behind them that start at 0; those after these stay as they are.

    Returns:
        Whether the encoder could be written into, see :func:`curvae.networks.carried`.
    """
    count = len(posterior.inward)
    if carried(encoder) < count or size < count:
        return False
    blank = posterior.inward.new_zeros
    means = torch.eye(size, count).to(posterior.inward)
    outward, bias = [means], [blank(size)]
    if scales:
        raw = blank(size)
        raw[:count] = soft_unbound(posterior.log_scale)
        outward, bias = [*outward, blank(size, count)], [*bias, raw]
    outward, bias = [*outward, blank(zeros, count)], [*bias, blank(zeros)]
    write_affine(encoder, posterior.inward, posterior.offset, torch.cat(outward), torch.cat(bias))
    return True


def outputs(network: nn.Module) -> int:
    """Number of values of a network's last linear layer; 0 where it has none."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]
    return last[0].out_features if last else 0
