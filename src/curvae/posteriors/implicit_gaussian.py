"""A Gaussian posterior whose precision is known by its products alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.curvature.routes.matrix_free import MatrixFree
from curvae.curvature.solvers.conjugate_gradient import solve
from curvae.distributions import Draws, NormalPosterior
from curvae.linalg import LOG_2PI
from curvae.typing import Batch

EXACT = 128
"""The most dimensions for which the variance is found by D solves; beyond, from draws."""

DRAWS = 200
"""Draws for a variance that is not solved for: its relative standard error is ``sqrt(2 / 200)``, 10 %."""

MEMORY = 2**30
"""Bytes that a covariance may take."""


@dataclass(frozen=True, eq=False)
class ImplicitGaussian(NormalPosterior):
    """``N(loc, width Lam^-1)`` where only ``v -> Lam v`` is known: that of Gauss-Newton for log p(x, z) at a point.

    Draws are perturb-and-solve (Papandreou and Yuille, NIPS 2010): ``z = loc + Lam^-1 y`` by conjugate gradients, with
    ``y = J'R e1 + P^1/2 e2`` distributed as N(0, Lam). The density of any z costs one product beside the constant
    ``1/2 log det Lam``.

    Where ``log_det`` is an estimate, all log-densities of an example are off by the same half of its error: importance
    weights keep their ratios and effective sample size, but their logarithms, hence every bound of log p(x), are
    shifted by that much. A bound is then guaranteed only up to ``1/2 log_det_error`` standard errors; an estimate that
    is too high errs on the safe side.

    Differences: gradients flow through ``loc`` alone, not through the precision and its determinant. As q is only a
    proposal, values are not touched by that.

    Args:
        loc: the mean.
        log_det: ``log det Lam``.
        precision: the products with Lam at the point where the model was linearized.
        width: factor on the covariance; 1 is the Gauss-Newton posterior itself.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.model import LatentVariableModel
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> z = torch.zeros(4, 2)
        >>> with torch.no_grad():
        ...     near = MatrixFree.of(model, Batch(torch.zeros(4, 3), torch.arange(4)), z)
        >>> q = ImplicitGaussian(z, near.local().precision.logdet().detach(), near)
        >>> q.draw(5).z.shape, q.covariance.shape
        (torch.Size([5, 4, 2]), torch.Size([4, 2, 2]))
    """

    loc: Float[Tensor, "B D"]
    log_det: Float[Tensor, " B"]
    precision: MatrixFree
    width: float = 1.0

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Mean and log-determinant; and, as it defines the precision, the example and the point of linearization."""
        near = self.precision
        seen = {} if near.batch.mask is None else {"mask": near.batch.mask}
        return {"loc": self.loc, "log_det": self.log_det, "point": near.z, "x": near.batch.x, **seen}

    @property
    def free(self) -> tuple[str, ...]:
        """The mean: the others belong to one another."""
        return ("loc",)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "ImplicitGaussian":
        kept = self.tensors
        if all(tensors[name] is kept[name] for name in kept if name not in ("loc", "log_det")):
            return replace(self, loc=tensors["loc"], log_det=tensors["log_det"])
        batch = Batch.of(tensors["x"], tensors.get("mask"))
        model = self.precision.model
        with torch.no_grad(), model.evaluating():
            precision = MatrixFree.of(model, batch, tensors["point"].detach())
        return ImplicitGaussian(tensors["loc"], tensors["log_det"], precision, self.width)

    @torch.no_grad()
    def solve(self, v: Float[Tensor, "*S B D"]) -> Float[Tensor, "*S B D"]:
        """``Lam^-1 v``, without gradient."""
        return solve(self.precision.product, v)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        with torch.no_grad():
            offset = self.width**0.5 * self.solve(self.precision.perturbation(n, generator))
        z = self.loc + offset
        return Draws.iid(z, self.log_prob(z))

    def log_prob(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        offset = z - self.loc
        fixed = offset.detach()
        with torch.no_grad():
            image = self.precision.product(fixed)
        # offset' Lam offset, whose gradient is 2 Lam offset
        square = ((2 * offset - fixed) * image).sum(-1) / self.width
        return -0.5 * (square + offset.shape[-1] * (LOG_2PI + math.log(self.width)) - self.log_det)

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        """``width Lam^-1`` by D solves.

        Raises:
            ValueError: it would take more memory than the budget.
        """
        count, size = self.loc.shape
        needed = count * size**2 * self.loc.element_size()
        if needed > MEMORY:
            raise ValueError(
                f"ImplicitGaussian: the covariances of {count} data in {size} dimensions take {needed} bytes; the "
                f"budget is {MEMORY}. Ask for fewer data at a time, or for the variance."
            )
        columns = self.solve(self._eye().unsqueeze(1).expand(-1, count, -1)).permute(1, 2, 0)
        return 0.5 * self.width * (columns + columns.mT)

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        """Diagonal of the covariance: exact up to ``EXACT`` dimensions, beyond from ``DRAWS`` draws."""
        if self.loc.shape[-1] <= EXACT:
            columns = [self.solve(row.expand_as(self.loc))[:, d] for d, row in enumerate(self._eye())]
            return self.width * torch.stack(columns, dim=-1)
        return self.estimated_variance(DRAWS)[0]

    def estimated_variance(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """The variance from n draws, and its standard error, ``sqrt(2 / n)`` of it."""
        value = self.draw(n, generator).z.detach().sub(self.loc.detach()).square().mean(0)
        return value, value * math.sqrt(2 / n)

    def _eye(self) -> Tensor:
        return torch.eye(self.loc.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
