"""A learned prior: a flow takes z to standard normal noise."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.flows import Flow, HasJacobian, InvertibleFlow, Transformed
from curvae.linalg import standard_normal_log_prob
from curvae.priors.prior import Prior


class FlowPrior(Prior):
    """``log p(z) = log N(f(z); 0, I) + log |det df/dz|``, nats: the flow's one cheap pass is that of the density.

    f starts at the identity (a multiple of it, where the family has no other), so that p(z) starts at a normal.
    Draws are ``f^-1(u)``, ``u ~ N(0, I)``, exact. The precision is the Gauss-Newton one, ``J'J`` with ``J = df/dz``:
    positive definite, the Hessian of ``-log p(z)`` where f is affine, else without the curvature of f.

    Reference: Xu et al., *On the Necessity and Effectiveness of Learning the Prior of Variational Auto-Encoder*,
    arXiv:1905.13452, 2019; Chen et al., *Variational Lossy Autoencoder*, ICLR 2017.

    Args:
        flow: f, with an inverse. What it takes of each example is here learned, one for all.

    Raises:
        ValueError: a flow without an inverse.

    Example:
        >>> from curvae.flows import Autoregressive, affine
        >>> prior = FlowPrior(Autoregressive(3, context=0, steps=4, hidden=[16], univariate=affine(), passes=2))
        >>> f"{prior.log_prob(torch.zeros(3)):.4f}", prior.sample(5).shape   # N(0, I) to begin with
        ('-2.7568', torch.Size([5, 3]))
    """

    context: nn.Parameter | None
    origin: Tensor

    def __init__(self, flow: Flow):
        super().__init__()
        if not isinstance(flow, InvertibleFlow):
            raise ValueError(f"FlowPrior: expects a flow with an inverse, for its draws; got {type(flow).__name__}.")
        self.flow = flow
        self.blocks = (flow.size,)
        self.register_parameter("context", nn.Parameter(torch.randn(flow.context)) if flow.context else None)
        self.register_buffer("origin", torch.zeros(flow.size), persistent=False)
        self._start()

    def start_from(self, deviation: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        return torch.full_like(deviation, math.exp(self._start()))

    def to_noise(self, z: Float[Tensor, "*B D"]) -> Transformed:
        """``u = f(z)``, (*B, D), and ``log |det df/dz|``, (*B)."""
        return self._reshaped(self.flow(z.reshape(-1, 1, self.size), self._given), z)

    def from_noise(self, u: Float[Tensor, "*B D"]) -> Transformed:
        """``z = f^-1(u)``, (*B, D), and ``log |det df^-1/du|``, (*B)."""
        return self._reshaped(self.flow.inverse(u.reshape(-1, 1, self.size), self._given), u)

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        noise, log_det = self.to_noise(z)
        return standard_normal_log_prob(noise) + log_det

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        origin = self.origin
        noise = torch.randn(n, self.size, generator=generator, device=origin.device, dtype=origin.dtype)
        return self.from_noise(noise).z

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        rows = z.reshape(-1, 1, self.size)
        if isinstance(self.flow, HasJacobian):
            jacobian = self.flow.jacobian(rows, self._given)
        else:
            jacobian = jacobian_by_columns(lambda at: self.flow(at, self._given).z, rows)
        return (jacobian.mT @ jacobian).reshape(*z.shape, self.size)

    @property
    def _given(self) -> Float[Tensor, "1 C"] | None:
        return None if self.context is None else self.context.unsqueeze(0)

    def _start(self) -> float:
        """Make f a multiple of the identity, and say its logarithm."""
        bias = torch.zeros(0) if self.context is None else self.context.detach()
        return self.flow.start_at_identity(bias.new_zeros(len(bias), 0), bias)

    @staticmethod
    def _reshaped(moved: Transformed, like: Float[Tensor, "*B D"]) -> Transformed:
        return Transformed(moved.z.reshape(like.shape), moved.log_det.reshape(like.shape[:-1]))


def jacobian_by_columns(function: Callable[[Tensor], Tensor], z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
    """The Jacobian of a function of each row, by D derivatives forward."""
    axes = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def along(axis: Float[Tensor, " D"]) -> Tensor:
        return torch.func.jvp(function, (z,), (axis.expand_as(z),))[1]

    return torch.func.vmap(along, out_dims=-1)(axes)
