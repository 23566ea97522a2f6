"""A Gaussian law whose precision is a diagonal plus one rank for each layer of z."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.gaussian import GaussianPosterior, block_sums
from curvae.distributions.posterior import ParametricPosterior


@dataclass(frozen=True, eq=False)
class RankOneGaussian(ParametricPosterior, GaussianPosterior):
    r"""``q(z | x) = prod_l N(z_l; loc_l, C_l)`` with ``C_l^-1 = diag(s_l)^-2 + u_l u_l'``: correlations at a cost O(D).

    With ``w = s * u`` and ``a = 1 + w'w`` for each layer, ``C = R R'`` where ``R = diag(s) (I - k w w')`` and
    ``k = 1 / (a + sqrt(a))``; ``log det C = 2 sum log s - log a``. No matrix is formed, and nothing is divided by
    ``w'w``, which may be 0: then C is diagonal.

    Reference: Rezende, Mohamed and Wierstra, *Stochastic Backpropagation and Approximate Inference in Deep Generative
    Models*, ICML 2014, whose diagonal of the precision is ``s^-2``.

    Args:
        loc: the means.
        log_scale: ``log s``, each element's standard deviation given all others.
        direction: u; its sign does not matter.
        blocks: sizes of the layers of z, summing to D.

    Raises:
        ValueError: blocks that do not sum to D.

    Example:
        >>> import torch
        >>> q = RankOneGaussian(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2), blocks=(2,))
        >>> torch.linalg.inv(q.covariance).round(decimals=4).tolist()
        [[[2.0, 1.0], [1.0, 2.0]]]
    """

    names = ("loc", "log_scale", "direction")
    loc: Float[Tensor, "B D"]
    log_scale: Float[Tensor, "B D"]
    direction: Float[Tensor, "B D"]
    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.blocks) != self.loc.shape[-1]:
            raise ValueError(
                f"RankOneGaussian: blocks must sum to the {self.loc.shape[-1]} dimensions of loc; got {self.blocks}."
            )

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        return (2 * self.log_scale).exp() * (1 - self._w.square() / self._spread(self._a))

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        root = self.log_scale.exp() * self._w / self._spread(self._a.sqrt())
        within = torch.block_diag(*(torch.ones(size, size) for size in self.blocks)).to(root)
        return torch.diag_embed((2 * self.log_scale).exp()) - within * root.unsqueeze(-1) * root.unsqueeze(-2)

    @property
    def half_log_dets(self) -> Float[Tensor, "B L"]:
        """``1/2 log det C_l`` of each layer."""
        return block_sums(self.log_scale, self.blocks) - 0.5 * self._a.log()

    @property
    def half_log_det(self) -> Float[Tensor, " B"]:
        return self.half_log_dets.sum(-1)

    def color(self, noise: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        k = 1 / (self._a + self._a.sqrt())
        return self.log_scale.exp() * (noise - self._along(k, noise))

    def whiten(self, offset: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        scaled, k = (-self.log_scale).exp() * offset, 1 / (1 + self._a.sqrt())
        return scaled + self._along(k, scaled)

    @property
    def _w(self) -> Float[Tensor, "B D"]:
        return self.log_scale.exp() * self.direction

    @property
    def _a(self) -> Float[Tensor, "B L"]:
        return 1 + block_sums(self._w.square(), self.blocks)

    def _along(self, k: Float[Tensor, "B L"], v: Float[Tensor, "S B D"]) -> Float[Tensor, "S B D"]:
        """``k w w'v`` layer by layer."""
        return self._spread(k * block_sums(self._w * v, self.blocks)) * self._w

    def _spread(self, value: Float[Tensor, "*S B L"]) -> Float[Tensor, "*S B D"]:
        layers = zip(value.split(1, dim=-1), self.blocks, strict=True)
        return torch.cat([one.expand(*one.shape[:-1], size) for one, size in layers], dim=-1)
