"""The way to the gradient and the precision of log p(x, z) at a point z, for one batch.

Every route gives ``Lam = (J'R)(J'R)' + prior.precision(z)`` with ``J = d eta / dz`` and ``R R'`` the expected
information of the likelihood; they differ in what they know of the decoder. A route is built for one batch and answers
for as many points as wanted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.priors import Prior, StandardNormal
from curvae.typing import Batch, Matrix, PerDatum

Product = Callable[[Tensor], Tensor]
"""``v -> Lam v`` for any number of vectors of each datum: (*S, B, D) to (*S, B, D)."""


class Local(NamedTuple):
    """log p(x, z) near a point."""

    log_joint: PerDatum
    grad: Float[Tensor, "B D"]
    precision: Matrix


class Point(NamedTuple):
    """A point of a search: log p(x, z) there, and what the route keeps of it for the gradient and the precision."""

    z: Float[Tensor, "B D"]
    log_joint: PerDatum
    kept: tuple[Shaped[Tensor, "B ..."], ...] = ()

    def detach(self) -> "Point":
        """Without the graph."""
        return Point(self.z.detach(), self.log_joint.detach(), tuple(one.detach() for one in self.kept))

    def take(self, rows: Int[Tensor, " n"]) -> "Point":
        """The same for some of the data."""
        return Point(self.z[rows], self.log_joint[rows], tuple(one[rows] for one in self.kept))

    def where(self, chosen: Bool[Tensor, " B"], other: "Point") -> "Point":
        """These where chosen, the other's elsewhere."""

        def pick(mine: Tensor, others: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *(1,) * (mine.ndim - 1)), mine, others)

        kept = tuple(pick(mine, others) for mine, others in zip(self.kept, other.kept, strict=True))
        return Point(pick(self.z, other.z), pick(self.log_joint, other.log_joint), kept)

    def updated(self, rows: Int[Tensor, " n"], part: "Point") -> "Point":
        """With some of the data elsewhere."""
        kept = tuple(old.index_copy(0, rows, new) for old, new in zip(self.kept, part.kept, strict=True))
        return Point(self.z.index_copy(0, rows, part.z), self.log_joint.index_copy(0, rows, part.log_joint), kept)


class Route(ABC):
    """The log joint of one batch, its gradient and its precision, as functions of z (B, D)."""

    model: LatentVariableModel
    variance: Float[Tensor, "B D"] | None = None
    """An estimate of the diagonal of ``Lam^-1``, where one is known."""

    def __init__(self, model: LatentVariableModel):
        self.model = model

    @property
    def locally_constant(self) -> bool:
        """Whether Lam does not change within a linear piece of the decoder."""
        return False

    @property
    def shorter(self) -> bool:
        """Whether its log-likelihood costs less than the decoder's output, for any number of draws (S, B, D)."""
        return False

    @classmethod
    @abstractmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        """Whether this route is exact for this decoder, likelihood and batch."""

    @classmethod
    @abstractmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Route":
        """Built for a batch; ``z`` is near the points that will be asked for."""

    @abstractmethod
    def take(self, rows: Int[Tensor, " n"]) -> "Route":
        """The same for some of the data."""

    @abstractmethod
    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        """``log p(x | z)``."""

    @abstractmethod
    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        """``log p(x | z)``, its gradient and its expected information about z."""

    @abstractmethod
    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``J'(score - F J step)``: the likelihood's share of the residual."""

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        """``log p(x | z)`` and its gradient; a route that knows a shorter way to it takes that."""
        level, pull = torch.func.vjp(self.log_likelihood, z)[:2]
        return level, pull(torch.ones_like(level))[0]

    def likelihood_product(self, point: Point) -> Product:
        """``v -> J'F J v``; a route that can linearizes once for all v (B, D)."""
        fixed = self.likelihood_residual(point.z, torch.zeros_like(point.z))
        return lambda v: fixed - self.likelihood_residual(point.z, v)

    def slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        """``log p(x, z)`` and its gradient."""
        level, slope = self.likelihood_slope(z)
        return level + self.model.prior.log_prob(z), slope + self.model.prior.score(z)

    def log_joint(self, z: Float[Tensor, "B D"]) -> PerDatum:
        """``log p(x, z)``, for a line search."""
        return self.log_likelihood(z) + self.model.prior.log_prob(z)

    def local(self, z: Float[Tensor, "B D"]) -> Local:
        """``log p(x, z)``, its gradient and its precision."""
        prior, part = self.model.prior, self.likelihood_part(z)
        return Local(
            part.log_joint + prior.log_prob(z), part.grad + prior.score(z), part.precision + prior.precision(z)
        )

    def point(self, z: Float[Tensor, "B D"]) -> Point:
        """``log p(x, z)``, and what is worth keeping for :meth:`grad_at` and :meth:`local_at`."""
        return Point(z, self.log_joint(z))

    def grad_at(self, point: Point) -> Float[Tensor, "B D"]:
        """The gradient of the log joint at a point seen before."""
        return self.slope(point.z)[1]

    def local_at(self, point: Point) -> Local:
        """:meth:`local` at a point seen before."""
        return self.local(point.z)

    def product_at(self, point: Point) -> Product:
        """``v -> Lam v`` (B, D) at a point seen before; Lam is not formed."""
        likelihood, prior = self.likelihood_product(point), prior_product(self.model.prior, point.z)
        return lambda v: likelihood(v) + prior(v)

    def residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``grad log p(x, z) - Lam(z) step`` by vector products alone: nothing of size D x D or D x P is formed.

        It is 0 at the Newton step, and its derivative there, solved with Lam, is that of the step.
        """
        bend = (self.model.prior.precision(z) @ step.unsqueeze(-1)).squeeze(-1)
        return self.likelihood_residual(z, step) + self.model.prior.score(z) - bend


class Routed(LatentVariableModel):
    """The model as a route sees it: the same log p(x, z), for the batch of the route alone."""

    def __init__(self, route: Route):
        model = route.model
        super().__init__(model.prior, model.decoder, model.likelihood, model.autoregressive)
        self.route = route

    def log_likelihood(
        self, x: Tensor, z: Float[Tensor, "*S B D"], mask: Tensor | None = None
    ) -> Float[Tensor, "*S B"]:
        return self.route.log_likelihood(z)


def chosen(batch: Batch, rows: Tensor | slice) -> Batch:
    """Some of the data of a batch."""
    return Batch(batch.x[rows], batch.index[rows], None if batch.mask is None else batch.mask[rows])


def assemble(
    model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"], rows: Float[Tensor, "B D P"]
) -> Local:
    """The likelihood's part from eta and its transposed Jacobian."""
    mask = batch.mask
    level = model.likelihood.log_prob(batch.x, eta, mask)
    score = model.likelihood.score(batch.x, eta, mask)
    root = model.likelihood.root(eta.unsqueeze(1), rows, None if mask is None else mask.unsqueeze(1))
    return Local(level, torch.einsum("bdp,bp->bd", rows, score), root @ root.mT)


def prior_product(prior: Prior, z: Float[Tensor, "B D"]) -> Product:
    """``v -> P v`` with the precision P of the prior at z."""
    if isinstance(prior, StandardNormal):
        return lambda v: v
    matrix = prior.precision(z)
    return lambda v: torch.einsum("bij,...bj->...bi", matrix, v)


def informed(model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"]) -> Product:
    """``v -> F v = R (R'v)`` with the expected information F of the likelihood at eta."""

    def product(v: Tensor) -> Tensor:
        root, transposed = torch.func.vjp(lambda u: model.likelihood.root(eta, u, batch.mask), v)[:2]
        return transposed(root)[0]

    return product


def missed(
    model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"], tangent: Float[Tensor, "B P"]
) -> Float[Tensor, "B P"]:
    """``score - F tangent``."""
    return model.likelihood.score(batch.x, eta, batch.mask) - informed(model, batch, eta)(tangent)
