r"""TARP: coverage of the regions around random points, which sees all latents at once.

For a reference point r and an example (x, z) of the model, the share of draws of q(z | x) that are nearer to r than z
is uniform if q is the posterior: the balls around r are credible regions, and the empirical distribution of the shares
is their expected coverage. So TARP is one more rank beside those of simulation-based calibration, from the same draws.

Reference points that do not depend on x cannot tell the posterior from the prior; ours do: ``r = A x`` with a random A,
in units in which r spreads like z.

Reference: Lemos, Coogan, Hezaveh and Perreault-Levasseur, *Sampling-based accuracy testing of posterior estimators for
general inference*, ICML 2023 (arXiv:2302.03026), theorem 3 and algorithm 2. Differences: the map A is drawn once, and
shares of L draws are tested as ranks, exactly.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from curvae.evaluation.calibration.row_tests import FLOOR, LEAST
from curvae.model import LatentVariableModel

SEEN = 1000
"""Data drawn from the model to find its units."""


class ReferenceMap(NamedTuple):
    """A random map from data to reference points, and the units in which distances are measured.

    Example:
        >>> found = ReferenceMap(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.tensor([1.0, 2.0]))
        >>> found.of(torch.ones(1, 2)), found.distance(torch.ones(1, 2), torch.tensor([[1.0, 6.0]]))
        (tensor([[1., 2.]]), tensor([2.]))
    """

    center: Float[Tensor, " P"]
    weight: Float[Tensor, "P D"]
    middle: Float[Tensor, " D"]
    spread: Float[Tensor, " D"]

    def of(self, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B D"]:
        """The reference point of each example, in units of z."""
        return self.middle + self.spread * ((x.flatten(1).to(self.weight.dtype) - self.center) @ self.weight)

    def distance(self, x: Float[Tensor, "B *event"], z: Float[Tensor, "*S B D"]) -> Float[Tensor, "*S B"]:
        """Of z from its example's reference point, in units of the prior's spread."""
        return ((z - self.of(x)) / self.spread).norm(dim=-1)


def reference_map(model: LatentVariableModel, generator: Generator | None = None) -> ReferenceMap:
    """A random map for a model: columns of x have equal weight, and every coordinate of r spreads as that of z does."""
    x, z = model.sample(SEEN, generator)
    x = x.flatten(1).to(z.dtype)
    center, spread = x.mean(0), x.std(0)
    spread = spread.clamp_min(LEAST + FLOOR * spread.square().mean().sqrt().item())
    raw = torch.randn(len(center), z.shape[-1], generator=generator, dtype=z.dtype, device=z.device) / spread[:, None]
    weight = raw / ((x - center) @ raw).std(0).clamp_min(LEAST)
    return ReferenceMap(center, weight, z.mean(0), z.std(0).clamp_min(LEAST))
