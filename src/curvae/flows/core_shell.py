"""An autoencoder as a bijection: a small core of the data is encoded given the rest, and the rest decoded from it."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.flows.flow import InvertibleFlow, Transformed
from curvae.linalg import soft_bound

FLOOR = 1e-3
"""The least deviation of the shell's noise."""


class Halves(NamedTuple):
    """A row in two."""

    core: Float[Tensor, "S B D"]
    shell: Float[Tensor, "S B E"]


class CoreShell(InvertibleFlow):
    r"""Two affine couplings: of d elements given the others (the encoder), and of these given that (the decoder).

    With x = (core, shell), ``c = g(core)``, ``(m, s) = encoder(shell)``: ``z = m + s c``, ``u = f(z)``,
    ``r = (shell - decoder(z)) / sigma``; the image is ``(u, r)``, the volume

    ``log |det| = log |det dg| + sum log s + log |det df| - sum log sigma``.

    ``s = exp`` of what the encoder gives, softly bounded at 7; ``sigma^2 = floor^2 + exp(log_variance)``, one for each
    element of the shell. With r = 0 the way back is the autoencoder's reconstruction.

    Reference: Silvestri, Roos and Ambrogioni, *Deterministic training of generative autoencoders using invertible
    layers*, ICLR 2023 (arXiv:2205.09546).

    Differences: scales are exponentials with soft bounds, where the authors' program has softplus and 1e-5.

    Args:
        core: places of the d elements among the D.
        size: number of dimensions D.
        encoder: from (N, D - d) to 2 d values.
        decoder: from (N, d) to D - d values.
        inner: g.
        outer: f.

    Example:
        >>> from curvae.flows import Whitening
        >>> flow = CoreShell(torch.tensor([1]), 3, nn.Linear(2, 2), nn.Linear(1, 2), Whitening(1, 0), Whitening(1, 0))
        >>> moved = flow(torch.randn(5, 4, 3))
        >>> moved.z.shape, moved.log_det.shape
        (torch.Size([5, 4, 3]), torch.Size([5, 4]))
    """

    core: Tensor
    shell: Tensor
    order: Tensor

    def __init__(
        self,
        core: Int[Tensor, " D"],
        size: int,
        encoder: nn.Module,
        decoder: nn.Module,
        inner: InvertibleFlow,
        outer: InvertibleFlow,
    ):
        super().__init__()
        self.size = size
        self.context = 0
        self.cheap = "both"
        kept = torch.ones(size, dtype=torch.bool)
        kept[core] = False
        places = {"core": core, "shell": kept.nonzero()[:, 0]}
        places["order"] = torch.cat([places["core"], places["shell"]]).argsort()
        for name, value in places.items():
            self.register_buffer(name, value, persistent=False)
        self.encoder = encoder
        self.decoder = decoder
        self.inner = inner
        self.outer = outer
        self.log_variance = nn.Parameter(torch.zeros(len(self.shell)))

    @property
    def sigma(self) -> Float[Tensor, " E"]:
        """Deviation of the shell's noise."""
        return (FLOOR**2 + self.log_variance.exp()).sqrt()

    def halves(self, x: Float[Tensor, "S B P"]) -> Halves:
        """Core and shell of x."""
        return Halves(x[..., self.core], x[..., self.shell])

    def forward(self, z: Float[Tensor, "S B P"], context: Tensor | None = None) -> Transformed:
        core, shell = self.halves(z)
        c, inward = self.inner(core)
        mean, log_s = self._encoded(shell)
        code = mean + log_s.exp() * c
        u, outward = self.outer(code)
        sigma = self.sigma
        r = (shell - self._decoded(code)) / sigma
        return Transformed(torch.cat([u, r], -1), inward + log_s.sum(-1) + outward - sigma.log().sum())

    def inverse(self, z: Float[Tensor, "S B P"], context: Tensor | None = None) -> Transformed:
        u, r = z.split([len(self.core), len(self.shell)], -1)
        code, inward = self.outer.inverse(u)
        sigma = self.sigma
        shell = self._decoded(code) + sigma * r
        mean, log_s = self._encoded(shell)
        core, outward = self.inner.inverse((code - mean) * (-log_s).exp())
        x = torch.cat([core, shell], -1)[..., self.order]
        return Transformed(x, inward - log_s.sum(-1) + outward + sigma.log().sum())

    def _encoded(self, shell: Float[Tensor, "S B E"]) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B D"]]:
        mean, log_s = self.encoder(shell.flatten(0, 1)).unflatten(0, shell.shape[:2]).chunk(2, -1)
        return mean, soft_bound(log_s)

    def _decoded(self, code: Float[Tensor, "S B D"]) -> Float[Tensor, "S B E"]:
        return self.decoder(code.flatten(0, 1)).unflatten(0, code.shape[:2])

    @torch.no_grad()
    def start_at_identity(self, weight: Tensor, bias: Tensor) -> float:
        """The networks' last layers say 0, and the noise is 1; then core and shell change their places alone."""
        for network in (self.encoder, self.decoder):
            for value in (*network.parameters(),)[-2:]:
                value.zero_()
        self.log_variance.zero_()
        return self.inner.start_at_identity(weight, bias) + self.outer.start_at_identity(weight, bias)
