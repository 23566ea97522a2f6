"""Oracles of sequences: linear-Gaussian state-space models, and systems whose every part is exact for one of them."""

import torch
from torch import Tensor

from curvae.linear import StateSpace


def random_state_space(seed: int, latent: int, size: int) -> StateSpace:
    """One in float64 whose states neither die out nor explode."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rotation = torch.linalg.qr(normal(latent, latent))[0]
    root = 0.3 * normal(latent, latent) + 0.7 * torch.eye(latent, dtype=torch.float64)
    return StateSpace(
        normal(latent),
        torch.eye(latent, dtype=torch.float64) + 0.2,
        0.9 * rotation,
        root @ root.mT,
        normal(size, latent),
        normal(size),
        0.2 + torch.rand(size, generator=generator, dtype=torch.float64),
    )
