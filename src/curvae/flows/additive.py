"""Additive couplings: one half of the dimensions is moved by what a network says of the other, which keeps volume."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.flows.flow import InvertibleFlow, Transformed
from curvae.linalg import soft_bound


class Additive(InvertibleFlow):
    """``y_b = x_b + m_k(x_a)``, K times, then ``h = exp(s) y``.

    a and b are the elements of even and of odd place, in turn. A coupling keeps volume whatever m is, so
    ``log |det dh/dx| = sum_i s_i`` exactly, and both ways take one pass.

    Reference: Dinh, Krueger and Bengio, *NICE: Non-linear Independent Components Estimation*, arXiv:1410.8516, 2014,
    sections 3.2 and 3.3.

    Differences: s is softly bounded at 7: the density of elements that never vary, or lie on a lattice, stays bounded.

    Args:
        size: number of dimensions D.
        networks: m_1 ... m_K, from (N, D_a) to (N, D_b); there are ``(D + 1) // 2`` even places.

    Raises:
        ValueError: fewer than 2 dimensions, or no network.

    Example:
        >>> flow = Additive(3, [nn.Linear(2, 1), nn.Linear(1, 2)])
        >>> h = flow(torch.randn(5, 4, 3))
        >>> h.z.shape, bool((h.log_det == 0).all())
        (torch.Size([5, 4, 3]), True)
    """

    order: Tensor

    def __init__(self, size: int, networks: Sequence[nn.Module]):
        super().__init__()
        check_least("Additive", 2, size=size)
        check_least("Additive", 1, couplings=len(networks))
        self.size = size
        self.context = 0
        self.cheap = "both"
        self.networks = nn.ModuleList(networks)
        self.log_scale = nn.Parameter(torch.zeros(size))
        places = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])
        self.register_buffer("order", places.argsort(), persistent=False)

    def forward(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        s = soft_bound(self.log_scale)
        return Transformed(self._coupled(z, 1) * s.exp(), s.sum().expand(z.shape[:-1]))

    def inverse(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        s = soft_bound(self.log_scale)
        return Transformed(self._coupled(z * (-s).exp(), -1), -s.sum().expand(z.shape[:-1]))

    def _coupled(self, x: Float[Tensor, "S B D"], sign: int) -> Float[Tensor, "S B D"]:
        """The couplings in their order, or with their signs turned in the opposite one."""
        halves = [x[..., 0::2], x[..., 1::2]]
        for k in range(len(self.networks))[::sign]:
            given, moved = halves[k % 2], halves[1 - k % 2]
            shift = self.networks[k](given.reshape(-1, given.shape[-1])).reshape(moved.shape)
            halves[1 - k % 2] = moved + sign * shift
        return torch.cat(halves, -1)[..., self.order]

    @torch.no_grad()
    def start_at_identity(self, weight: Tensor, bias: Tensor) -> float:
        """The last layers of the networks say 0, and s is 0."""
        self.log_scale.zero_()
        for network in self.networks:
            *_, last, shift = network.parameters()
            last.zero_()
            shift.zero_()
        return 0.0
