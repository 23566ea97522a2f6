"""Curvature without its matrix: the route, and a stochastic log-determinant.

For latent spaces so large that the Jacobian of the decoder, (B, P, D), cannot be formed.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae import linalg
from curvae.curvature.decoded import Decoded
from curvae.curvature.products import Products
from curvae.curvature.route import Local, Product, chosen
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum

MEMORY = 2**24
"""Bytes that several Lanczos bases may take at once; one is always let through."""


class MatrixFree(Decoded):
    """The generic route with nothing of size P x D: the precision, where it is asked for at all, by D products.

    The last point looked at without gradients is remembered, so that what a line search accepts is not decoded again.
    ``variance`` is an estimate of the diagonal of ``Lam^-1``, which helps conjugate gradients.
    """

    _last: Products | None = None

    def __init__(self, model: LatentVariableModel, batch: Batch, variance: Float[Tensor, "B D"] | None = None):
        super().__init__(model, batch)
        self.variance = variance

    def take(self, rows: Int[Tensor, " n"]) -> "MatrixFree":
        variance = None if self.variance is None else self.variance[rows]
        return MatrixFree(self.model, chosen(self.batch, rows), variance)

    def products(self, z: Float[Tensor, "B D"]) -> Products:
        if torch.is_grad_enabled():
            return super().products(z)
        if self._last is None or not _same(self._last.z, z):
            self._last = super().products(z)
        return self._last

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.products(z).log_likelihood

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        near = self.products(z)
        return Local(near.log_likelihood, near.likelihood_grad, near.likelihood_matrix())


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (linalg.may_look(one) and torch.equal(one, other))


class LogDet(NamedTuple):
    """An estimate of ``log det Lam`` and its standard error; the error is 0 where as many probes as dimensions ran."""

    value: PerDatum
    error: PerDatum


def stochastic_log_det(product: Product, like: Float[Tensor, "B D"], probes: int = 16, steps: int = 20) -> LogDet:
    r"""``log det Lam = tr log Lam`` by stochastic Lanczos quadrature (Ubaru, Chen and Saad, SIMAX 2017).

    Each probe q, a unit vector, gives ``D q' log(Lam) q`` by a Gauss quadrature of ``steps`` nodes from as many
    products. The probes are orthonormal directions in general position, the same for all data and calls: their mean
    is unbiased, has less variance than that of independent ones, and is exact when there are D of them. Too few steps
    err upwards, as the quadrature bounds a logarithm from above.

    Args:
        product: ``v -> Lam v``.
        like: any tensor of the shape of z.
        probes: at most D are used.
        steps: at most D are used.

    Example:
        >>> import torch
        >>> found = stochastic_log_det(lambda v: v * torch.tensor([1.0, 2.0, 4.0]), torch.zeros(1, 3), probes=3)
        >>> f"{found.value.item():.4f} {found.error.item()}"   # log 8
        '2.0794 0.0'
    """
    size = like.shape[-1]
    probes = min(probes, size)
    noise = torch.randn(size, probes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.linalg.qr(noise).Q.mT.to(like)
    steps = min(steps, size)
    at_once = max(1, MEMORY // (steps * like.numel() * like.element_size()))
    chunks = start.unsqueeze(1).expand(-1, *like.shape).split(at_once)
    each = size * torch.cat([quadrature(*lanczos(product, chunk, steps)) for chunk in chunks])
    if probes == 1:
        return LogDet(each[0], torch.full_like(each[0], 0.0 if size == 1 else math.inf))
    return LogDet(each.mean(0), each.std(0) * math.sqrt((1 - probes / size) / probes))


def lanczos(
    product: Product, start: Float[Tensor, "S B D"], steps: int
) -> tuple[Float[Tensor, "k S B"], Float[Tensor, "k-1 S B"]]:
    """Diagonal and subdiagonal of the tridiagonal matrix of Lam in the Krylov space of unit vectors ``start``.

    Every vector is made orthogonal to all before it, twice. Where the space is exhausted the diagonal goes on with 1,
    apart from the rest.
    """
    basis = start.unsqueeze(0)
    alive = torch.ones_like(start[..., 0], dtype=torch.bool)
    diagonal, beside = [], []
    for step in range(steps):
        image = product(basis[-1])
        diagonal.append(torch.where(alive, (image * basis[-1]).sum(-1), 1.0))
        if step == steps - 1:
            break
        rest = image
        for _ in range(2):
            rest = rest - torch.einsum("ksb,ksbd->sbd", torch.einsum("ksbd,sbd->ksb", basis, rest), basis)
        size = rest.norm(dim=-1)
        # not (a <= b), so that what is not a number stays visible
        alive = alive & ~(size <= 10 * torch.finfo(size.dtype).eps * image.norm(dim=-1))
        beside.append(torch.where(alive, size, 0.0))
        following = torch.where(alive.unsqueeze(-1), rest / size.unsqueeze(-1), 0.0)
        basis = torch.cat([basis, following.unsqueeze(0)])
    return torch.stack(diagonal), torch.stack(beside) if beside else start.new_zeros(0, *alive.shape)


def quadrature(diagonal: Float[Tensor, "k S B"], beside: Float[Tensor, "k-1 S B"]) -> Float[Tensor, "S B"]:
    """``e1' log(T) e1`` of each tridiagonal matrix T; NaN where it is not finite."""
    matrix = torch.diag_embed(diagonal.movedim(0, -1)) + sum(
        torch.diag_embed(beside.movedim(0, -1), offset) for offset in (-1, 1)
    )
    finite = matrix.isfinite().all(-1).all(-1)
    eye = torch.eye(len(diagonal), dtype=matrix.dtype, device=matrix.device)
    nodes, vectors = torch.linalg.eigh(torch.where(finite[..., None, None], matrix, eye))
    logs = nodes.clamp(min=torch.finfo(nodes.dtype).tiny).log()
    return torch.where(finite, (vectors[..., 0, :].square() * logs).sum(-1), math.nan)
