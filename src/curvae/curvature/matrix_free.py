"""The Gauss-Newton precision without its matrix: products, conjugate gradients and a stochastic log-determinant.

For latent spaces so large that the Jacobian of the decoder, (B, P, D), cannot be formed. ``Lam v = J'F(J v) + P v``
needs J only in products with one vector: the decoder is run once, ``u -> J'u`` is its reverse pass, and ``v -> J v`` is
the reverse pass of that (which is linear in u), so that neither repeats the decoder. A product costs what two decoder
passes do.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curvae import linalg
from curvae.curvature.decoded import Decoded
from curvae.curvature.route import Local, require_continuous
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from curvae.typing import Batch, Latent, Matrix, PerDatum

MEMORY = 2**24
"""Bytes that several products, or Lanczos bases, may take at once; one is always let through."""

Product = Callable[[Tensor], Tensor]
"""``v -> Lam v`` for any number of vectors of each datum: (*S, B, D) to (*S, B, D)."""


class Products:
    """log p(x, z) at a point z, its gradient, and products with ``Lam = J'F J + prior precision`` there.

    The decoder is run once, here. Everything is differentiable where gradients are on.

    Args:
        model: its decoder may be any whose rows do not depend on one another (BatchNorm in evaluation mode).
        batch: the data.
        z: the point.

    Raises:
        ValueError: discrete latents.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> with torch.no_grad():
        ...     near = Products(model, Batch(torch.ones(4, 2), torch.arange(4)), torch.zeros(4, 1))
        ...     near(torch.ones(4, 1))[0].item()   # J'J + 1
        3.0
    """

    def __init__(self, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]):
        require_continuous(model)
        self.model = model
        self.batch = batch
        self.z = z
        self.eta, self._pull = torch.func.vjp(lambda point: model.decode(point, batch.x), z)[:2]
        bytes_each = 4 * self.eta.numel() * self.eta.element_size()
        self.at_once = max(1, MEMORY // max(1, bytes_each))

    @cached_property
    def log_likelihood(self) -> PerDatum:
        """``log p(x | z)``."""
        return self.model.likelihood.log_prob(self.batch.x, self.eta, self.batch.mask)

    @cached_property
    def log_joint(self) -> PerDatum:
        """``log p(x, z)``."""
        return self.log_likelihood + self.model.prior.log_prob(self.z)

    @cached_property
    def likelihood_grad(self) -> Float[Tensor, "B D"]:
        """``d log p(x | z) / dz``."""
        return self._pull(self.model.likelihood.score(self.batch.x, self.eta, self.batch.mask))[0]

    @cached_property
    def grad(self) -> Float[Tensor, "B D"]:
        """``d log p(x, z) / dz``."""
        log_prior, pull = torch.func.vjp(self.model.prior.log_prob, self.z)[:2]
        return self.likelihood_grad + pull(torch.ones_like(log_prior))[0]

    def __call__(self, v: Latent) -> Latent:
        """``Lam v`` for any number of vectors of each datum."""
        return self.likelihood_product(v) + self.prior_product(v)

    def likelihood_product(self, v: Latent) -> Latent:
        """``J'F(J v)``."""
        return self._each(lambda one: self._pull(self._unroot(self._root(self._push(one)[0]))[0])[0], v)

    def prior_product(self, v: Latent) -> Latent:
        """The prior's precision times v; for a standard normal that is v."""
        if isinstance(self.model.prior, StandardNormal):
            return v
        return torch.einsum("bij,...bj->...bi", self.model.prior.precision(self.z), v)

    def likelihood_matrix(self) -> Matrix:
        """``J'FJ``, formed by D products, several at a time where memory allows."""
        eye = torch.eye(self.z.shape[-1], dtype=self.z.dtype, device=self.z.device)
        columns = self.likelihood_product(eye.unsqueeze(1).expand(-1, *self.z.shape))
        matrix = columns.permute(1, 2, 0)
        return 0.5 * (matrix + matrix.mT)

    def matrix(self) -> Matrix:
        """Lam, formed by D products."""
        return self.likelihood_matrix() + self.model.prior.precision(self.z)

    def perturbation(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        """``J'R e1 + P^1/2 e2`` with standard normal e1 and e2: n draws of N(0, Lam) for each datum."""
        width = self._root(self.eta).shape[-1]
        parts = []
        for start in range(0, n, self.at_once):
            count = min(self.at_once, n - start)
            noise = self._noise((count, len(self.eta), width), generator)
            parts.append(self._each(lambda one: self._pull(self._unroot(one)[0])[0], noise))
        noise = self._noise((n, *self.z.shape), generator)
        if not isinstance(self.model.prior, StandardNormal):
            factor, _ = linalg.cholesky(self.model.prior.precision(self.z))
            noise = torch.einsum("bij,sbj->sbi", factor, noise)
        return torch.cat(parts) + noise

    def _root(self, v: Tensor) -> Tensor:
        """``R'v``."""
        return self.model.likelihood.root(self.eta, v, self.batch.mask)

    @cached_property
    def _unroot(self) -> Callable[[Tensor], tuple[Tensor]]:
        """``u -> R u``."""
        return torch.func.vjp(self._root, torch.zeros_like(self.eta))[1]

    @cached_property
    def _push(self) -> Callable[[Tensor], tuple[Tensor]]:
        """``v -> J v``: the reverse pass of the reverse pass."""
        return torch.func.vjp(lambda u: self._pull(u)[0], torch.zeros_like(self.eta))[1]

    def _each(self, function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        """``function``, of one vector of each datum, over all leading dimensions, ``at_once`` of them together."""
        if v.ndim == 2:
            return function(v)
        flat = v.reshape(-1, *v.shape[-2:])
        if self.at_once == 1:
            out = torch.stack([function(one) for one in flat])
        else:
            _ = self._push, self._unroot  # built outside vmap
            out = torch.func.vmap(function, chunk_size=self.at_once)(flat)
        return out.unflatten(0, v.shape[:-2])

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, device=self.z.device, dtype=self.z.dtype)


class MatrixFree(Decoded):
    """The generic route with nothing of size P x D: the precision, where it is asked for at all, by D products.

    The last point looked at without gradients is remembered, so that what a line search accepts is not decoded again.
    """

    _last: Products | None = None

    def products(self, z: Float[Tensor, "B D"]) -> Products:
        """The products at z."""
        if torch.is_grad_enabled():
            return Products(self.model, self.batch, z)
        if self._last is None or not torch.equal(self._last.z, z):
            self._last = Products(self.model, self.batch, z)
        return self._last

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.products(z).log_likelihood

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        near = self.products(z)
        return Local(near.log_likelihood, near.likelihood_grad, near.likelihood_matrix())


class Solved(NamedTuple):
    """What conjugate gradients found for each vector of each datum."""

    solution: Float[Tensor, "*S B D"]
    residual: Float[Tensor, "*S B"]
    """``|target - Lam solution|`` by the recursion."""
    iterations: Int[Tensor, "*S B"]
    converged: Bool[Tensor, "*S B"]


def conjugate_gradients(
    product: Product, target: Latent, iterations: int, tolerance: float, diagonal: Float[Tensor, "B D"] | None = None
) -> Solved:
    """Solves ``Lam y = target`` by preconditioned conjugate gradients from y = 0, each vector of each datum by itself.

    A vector is left alone once its residual is below ``tolerance * |target|``, or where Lam shows itself not positive
    or not finite. Stopped early, y is still an ascent direction for target = gradient, and
    ``1/2 target'y`` what a step to it gains in the quadratic model.

    Args:
        product: ``v -> Lam v``.
        target: (*S, B, D).
        iterations: at most this many; D are enough but for rounding.
        tolerance: relative to the norm of the target.
        diagonal: the preconditioner, an estimate of the diagonal of ``Lam^-1`` or of ``1 / diag Lam``.

    Example:
        >>> import torch
        >>> solved = conjugate_gradients(lambda v: 2 * v, torch.ones(1, 3), iterations=5, tolerance=1e-6)
        >>> solved.solution.tolist(), solved.iterations.item()
        ([[0.5, 0.5, 0.5]], 1)
    """
    scale = torch.ones_like(target) if diagonal is None else diagonal.expand_as(target)
    aim = tolerance * target.norm(dim=-1)
    solution, residual, size = torch.zeros_like(target), target, target.norm(dim=-1)
    direction = scale * residual
    rho = (residual * direction).sum(-1)
    used = torch.zeros_like(size, dtype=torch.long)
    active = size > aim
    for _ in range(iterations):
        if not bool(active.any()):
            break
        image = product(direction)
        bend = (direction * image).sum(-1)
        active = active & (bend > 0) & bend.isfinite()
        length, moves = (rho / bend).unsqueeze(-1), active.unsqueeze(-1)
        solution = torch.where(moves, solution + length * direction, solution)
        residual = torch.where(moves, residual - length * image, residual)
        used = used + active
        size = residual.norm(dim=-1)
        active = active & (size > aim)
        old, rho = rho, (residual * scale * residual).sum(-1)
        direction = scale * residual + torch.where(active, rho / old, 0.0).unsqueeze(-1) * direction
    return Solved(solution, size, used, size <= aim)


def solve(product: Product, target: Latent) -> Latent:
    """``Lam^-1 target`` as exactly as the precision of the numbers lets one hope."""
    return conjugate_gradients(product, target, 2 * target.shape[-1] + 10, tight(target.dtype)).solution


def tight(dtype: torch.dtype) -> float:
    """The relative residual of ``solve``: 2e-12 in float64, 6e-6 in float32."""
    return torch.finfo(dtype).eps ** 0.75


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
