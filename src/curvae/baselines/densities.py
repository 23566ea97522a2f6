"""Independent columns: of binary and categorical data by smoothed frequencies, of others by the likeliest law."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.baselines.baseline import Density
from curvae.likelihoods import Elementwise, HasNoise
from curvae.linear import NoisyFit
from curvae.typing import Context

ROUNDS = 100
"""Of Fisher scoring, at most."""


@dataclass(frozen=True, eq=False)
class BernoulliColumns:
    """``log p(x) = sum_j x_j log p_j + (1 - x_j) log(1 - p_j)``.

    Args:
        probability: p, (P,), strictly between 0 and 1.
    """

    probability: Float[Tensor, " P"]

    @classmethod
    def fitted(cls, x: Shaped[Tensor, "N P"], mask: Shaped[Tensor, "N P"] | None = None) -> "BernoulliColumns":
        """Laplace's rule: ``p_j = (1 + sum_i x_ij) / (2 + n_j)`` over the n_j observed rows.

        One 0 and one 1 are added to what was counted, so that a value never seen in training has a probability too.

        Example:
            >>> BernoulliColumns.fitted(torch.tensor([[1, 0], [1, 0]])).probability
            tensor([0.7500, 0.2500], dtype=torch.float64)
        """
        seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        ones = torch.where(seen, x, 0).sum(0, dtype=torch.float64)
        return cls((1 + ones) / (2 + seen.sum(0)))

    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        each = x * self.probability.log() + (1 - x) * torch.log1p(-self.probability)
        return (each if mask is None else torch.where(mask, each, 0)).sum(1)


@dataclass(frozen=True, eq=False)
class CategoricalColumns:
    """``log p(x) = sum_j log p_j[x_j]``; x holds categories 0 .. K - 1.

    Args:
        log_probability: log p, (P, K).
    """

    log_probability: Float[Tensor, "P K"]

    @classmethod
    def fitted(
        cls, x: Shaped[Tensor, "N P"], categories: int, mask: Shaped[Tensor, "N P"] | None = None
    ) -> "CategoricalColumns":
        """Laplace's rule: ``p_j[k] = (1 + n_jk) / (K + n_j)`` over the n_j observed rows, of which n_jk are k.

        Example:
            >>> CategoricalColumns.fitted(torch.tensor([[2], [2]]), categories=3).log_probability.exp()
            tensor([[0.2000, 0.2000, 0.6000]], dtype=torch.float64)
        """
        seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        chosen = [((x.long() == k) & seen).sum(0) for k in range(categories)]
        counts = 1 + torch.stack(chosen, 1).double()
        return cls((counts / counts.sum(1, keepdim=True)).log())

    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        each = self.log_probability.gather(1, x.long().mT).mT
        return (each if mask is None else torch.where(mask, each, 0)).sum(1)


@dataclass(frozen=True, eq=False)
class ConstantColumns:
    """``log p(x) = sum_j log p(x_j | eta_j)``: the same natural parameters for every row.

    Args:
        likelihood: with parameters of its own.
        eta: (P,).
    """

    likelihood: Elementwise
    eta: Float[Tensor, " P"]

    @classmethod
    def fitted(
        cls,
        likelihood: Elementwise,
        x: Shaped[Tensor, "N P"],
        mask: Shaped[Tensor, "N P"] | None = None,
        offset: Float[Tensor, " N"] | float = 0.0,
    ) -> "ConstantColumns":
        """By Fisher scoring, with steps of at most 1, and the likelihood's own parameters given eta after each.

        Example:
            >>> from curvae.likelihoods import Poisson
            >>> ConstantColumns.fitted(Poisson(1), torch.tensor([[1.0], [3.0]])).eta.exp().round(decimals=4)
            tensor([2.], dtype=torch.float64)
        """
        own, x = deepcopy(likelihood).double(), x.double()
        own.event = (x.shape[1],)
        eta, known = x.new_zeros(x.shape[1]), torch.as_tensor(offset).to(x).reshape(-1, 1)
        with torch.no_grad():
            for _ in range(ROUNDS):
                each = (eta + known).expand(len(x), -1)
                information = own.root(each, torch.ones_like(each), mask).square().sum(0)
                step = (own.score(x, each, mask).sum(0) / information.clamp(min=1e-12)).clamp(-1, 1)
                eta = eta + step
                if isinstance(own, HasNoise):
                    own.maximize(x, (eta + known).expand(len(x), -1), mask)
                if bool((step.abs() < 1e-7).all()):
                    break
        return cls(own, eta)

    @torch.no_grad()
    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        return self.likelihood.log_prob(x, self.eta.expand(len(x), -1), mask)


@dataclass(frozen=True, eq=False)
class LogTransformedDensity:
    """``log p(x) = log p_y(log x) - sum_j log x_j`` with another density of y = log x."""

    density: Density

    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        y = (x if mask is None else torch.where(mask, x, torch.ones_like(x))).log()
        return self.density.log_prob(y, mask) - y.sum(1)


@dataclass(frozen=True, eq=False)
class GroupedColumns:
    """``log p(x) = sum_g log p_g(x_g)``: groups of columns, each with its own density."""

    groups: tuple[tuple[Density, list[int]], ...]

    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        seen = [None if mask is None else mask[:, columns] for _, columns in self.groups]
        pairs = zip(self.groups, seen, strict=True)
        return torch.stack([density.log_prob(x[:, columns], of) for (density, columns), of in pairs]).sum(0)


@dataclass(frozen=True, eq=False)
class ColumnsOverExposure:
    """Independent columns of counts, whose means are in proportion to the exposure of a row."""

    columns: ConstantColumns

    @torch.no_grad()
    def log_prob_given(
        self, x: Float[Tensor, "B P"], context: Context, mask: Shaped[Tensor, "B P"] | None = None
    ) -> Float[Tensor, " B"]:
        """``log p(x | t)`` of the observed elements, nats."""
        eta = self.columns.likelihood.placed(self.columns.eta.expand(len(x), -1), Context(exposure=context.exposure))
        return self.columns.likelihood.log_prob(x, eta, mask)


@dataclass(frozen=True, eq=False)
class BesideErrors:
    """Principal components beside known errors."""

    fit: NoisyFit

    def log_prob_given(
        self, x: Float[Tensor, "B P"], context: Context, mask: Shaped[Tensor, "B P"] | None = None
    ) -> Float[Tensor, " B"]:
        """``log p(x | errors)`` of the observed elements, nats."""
        if context.errors is None:
            raise ValueError("errors: expected the known errors of each row, got none.")
        return self.fit.log_prob(x, context.errors.flatten(1), mask)
