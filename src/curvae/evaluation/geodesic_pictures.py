"""Shortest curves between codes of a latent plane, and how much draws of the decoder disagree there, as arrays."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.latents import Axes, decoded_spread, geodesics, mean_decoder
from curvae.systems import Parts
from curvae.weights import AveragedModel

CODES, SEGMENTS, STEPS = 3, 32, 60
"""Codes far from one another, each two of which a curve joins; pieces of it; steps of each search."""
GRID, MARGIN = 40, 0.15
"""Places along each axis of the plane; share of the range that is shown beyond it."""


def geodesic_pictures(parts: Parts, means: NDArray, axes: Axes | None) -> dict[str, NDArray]:
    """Of two latents and decoders with drawn weights; of anything else nothing.

    ``geodesics`` (3, 33, 2), ``geodesic_length`` and ``straight_length`` (3,), ``plane_spread`` (40, 40), whose rows go
    along z1, and ``plane_range`` (4,), the ends of z0 and of z1.
    """
    found = means[np.isfinite(means).all(1)]
    if not isinstance(parts.model, AveragedModel) or means.shape[1] != 2 or len(found) < CODES:
        return {}
    decode, z = mean_decoder(parts.model), torch.from_numpy(found)
    turn = torch.eye(2) if axes is None else axes.rotation.to(z)
    place = next(parts.model.parameters())

    def own(codes: Tensor) -> Tensor:
        return (codes @ turn).to(place)

    chosen = _apart(z)
    pairs = torch.combinations(torch.arange(CODES)).mT
    curves = geodesics(decode, own(chosen[pairs[0]]), own(chosen[pairs[1]]), SEGMENTS, STEPS)
    low, high = z.amin(0), z.amax(0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    first, second = (torch.linspace(float(low[d]), float(high[d]), GRID) for d in (0, 1))
    grid = torch.cartesian_prod(second, first).flip(1)
    arrays = {
        "geodesics": curves.points.cpu().to(turn) @ turn.mT,
        "geodesic_length": curves.length,
        "straight_length": curves.straight_length,
        "plane_spread": decoded_spread(decode, own(grid)).reshape(GRID, GRID),
        "plane_range": torch.stack([low[0], high[0], low[1], high[1]]),
    }
    return {name: value.detach().cpu().float().numpy() for name, value in arrays.items()}


def _apart(z: Tensor) -> Tensor:
    """Codes far from one another: the one farthest from the mean, and then each time that farthest from those."""
    chosen = [int((z - z.mean(0)).norm(dim=1).argmax())]
    while len(chosen) < CODES:
        chosen.append(int(torch.cdist(z, z[chosen]).amin(1).argmax()))
    return z[chosen]
