"""Curvature without its matrix, by its products alone, and a stochastic log-determinant.

For latent spaces so large that the Jacobian of the decoder, (B, P, D), cannot be formed.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Product
from curvae.curvature.routes.decoder_route import DecoderLinearization, Observed
from curvae.model import LatentVariableModel, require_continuous
from curvae.priors import StandardNormal
from curvae.typing import Batch, Matrix, PerDatum

MEMORY = 2**24
"""Bytes that several Lanczos bases may take at once; one is always let through."""


class MatrixFree(DecoderLinearization):
    """Any decoder, with nothing of size P x D: the precision, where it is asked for at all, by D products.

    Everything is differentiable where gradients are on. ``variance``, an estimate of the diagonal of ``Lam^-1``, helps
    conjugate gradients.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> with torch.no_grad():
        ...     near = MatrixFree.of(model, Batch(torch.ones(4, 2), torch.arange(4)), torch.zeros(4, 1))
        ...     near.product(torch.ones(4, 1))[0].item()   # J'J + 1
        3.0
    """

    @classmethod
    def of(
        cls,
        model: LatentVariableModel,
        batch: Batch,
        z: Float[Tensor, "B D"],
        variance: Float[Tensor, "B D"] | None = None,
    ) -> "MatrixFree":
        require_continuous(model, "curvature")
        return cls(Observed(model, batch, variance), z)

    def _evaluated(self) -> tuple[Tensor, ...]:
        level = self.model.likelihood.log_prob(self.batch.x, self._decoded.eta, self.batch.mask)
        return (level + self.model.prior.log_prob(self.z),)

    def _likelihood(self) -> tuple[Float[Tensor, "B D"], Matrix]:
        """By D products, several at a time where memory allows."""
        eye = torch.eye(self.z.shape[-1], dtype=self.z.dtype, device=self.z.device)
        columns = self._information(eye.unsqueeze(1).expand(-1, *self.z.shape))
        matrix = columns.permute(1, 2, 0)
        return self.pull(self._score()), 0.5 * (matrix + matrix.mT)

    def perturbation(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        """``J'R e1 + P^1/2 e2`` with standard normal e1 and e2: n draws of N(0, Lam) for each example."""
        likelihood, eta, mask, pull = self.model.likelihood, self._decoded.eta, self.batch.mask, self.pull
        root, unroot = torch.func.vjp(lambda v: likelihood.root(eta, v, mask), torch.zeros_like(eta))[:2]
        parts = []
        for start in range(0, n, self.at_once):
            noise = self._noise((min(self.at_once, n - start), *root.shape), generator)
            parts.append(self.each(lambda one: pull(unroot(one)[0]), noise))
        rest = self._noise((n, *self.z.shape), generator)
        if not isinstance(self.model.prior, StandardNormal):
            factor, _ = linalg.cholesky(self.model.prior.precision(self.z))
            rest = torch.einsum("bij,sbj->sbi", factor, rest)
        return torch.cat(parts) + rest

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, device=self.z.device, dtype=self.z.dtype)


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
