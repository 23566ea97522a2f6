"""Linearized Laplace over a part of the weights, with their full covariance."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from curvae.argument_checks import check_least
from curvae.model import LatentVariableModel
from curvae.typing import Batch
from curvae.weights.diagonal_curvature import diagonal_curvature
from curvae.weights.evidence import evidence_precision
from curvae.weights.posterior import WeightPosterior
from curvae.weights.rows import CodedRows
from curvae.weights.vectors import WeightVector, named_weights, normal_vector, weight_vector

ROWS, WEIGHTS = 32, 64
"""At a time, in products with the Jacobian."""


class SubnetworkLaplace(WeightPosterior):
    r"""``q(theta_S) = N(theta^_S, H_S^-1)``, ``H_S = sum_n J_S' F_n J_S + lambda_S I``; all other weights stay.

    S are the weights of largest marginal variance ``1 / (h + lambda)``, h the diagonal of the Gauss-Newton matrix: of
    all subsets of a size the one whose Gaussian is closest to the full one (Wasserstein, were that diagonal). The
    posterior is one of the linearized decoder ``eta(z) + J_S(z) (theta_S - theta^_S)``, and that is what draws are:
    the decoder itself with such weights is another function. J is only ever multiplied with vectors.

    Args:
        size: number of weights in S; all, if there are fewer.
        prior_precision: lambda of ``N(0, I / lambda)`` for all W weights; None = by the evidence.
        rescaled: whether ``lambda_S = lambda S / W``, which makes up for the variance that all other weights lack; else
            it is lambda.

    Raises:
        ValueError: fewer than 1 weight.

    Reference: Daxberger et al., *Bayesian Deep Learning via Subnetwork Inference*, ICML 2021; linearization after
    Immer, Korzepa and Bauer, *Improving Predictions of Bayesian Neural Nets via Local Linearization*, AISTATS 2021.

    Differences: marginal variances are those of a diagonal Laplace approximation, not of SWAG; a weight that no
    training row moves (h = 0: behind a unit that is never active) is as wide as its prior and does nothing, and is
    taken last; that lambda is rescaled in the paper is recollected, not checked.
    """

    chosen: Tensor
    """(S,), places in the weight vector."""
    factor: Tensor
    """The lower Cholesky factor of H_S, (S, S)."""

    def __init__(self, size: int = 200, prior_precision: float | None = None, rescaled: bool = True):
        super().__init__()
        check_least("SubnetworkLaplace", 1, size=size)
        self.size, self.prior_precision, self.rescaled = size, prior_precision, rescaled
        self.register_buffer("chosen", torch.zeros(0, dtype=torch.long))
        self.register_buffer("factor", torch.zeros(0))

    @torch.no_grad()
    def fit(self, model: LatentVariableModel, rows: CodedRows) -> None:
        """See the rows, at the weights that the decoder has."""
        weights, curvature = weight_vector(model.decoder), diagonal_curvature(model, rows)
        known = self.prior_precision
        whole = evidence_precision(weights.square().sum(), curvature) if known is None else known
        self.chosen = widest_weights(curvature, self.size)
        precision = whole * len(self.chosen) / len(weights) if self.rescaled else whole
        matrix = rows.scale * subset_curvature(model, self.chosen, rows)
        matrix.diagonal().add_(precision)
        self.factor = torch.linalg.cholesky(matrix).to(weights)

    def networks(self, network: nn.Module, count: int, generator: torch.Generator | None = None) -> Iterator[nn.Module]:
        for _ in range(count):
            direction = torch.zeros_like(weight_vector(network).detach())
            if len(self.chosen):
                noise = normal_vector(self.factor[:, :1], generator)
                step = torch.linalg.solve_triangular(self.factor.mT, noise, upper=True)
                direction[self.chosen] = step.squeeze(1)
            yield LinearizedDecoder(network, direction)

    @torch.no_grad()
    def variance(self, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> Float[Tensor, "B P"]:
        """The variance of each eta: the diagonal of ``J_S H_S^-1 J_S'``."""
        jacobian = subset_jacobian(model.given(batch.context), self.chosen, z, batch.x)
        solved = torch.linalg.solve_triangular(self.factor, jacobian.flatten(1), upper=False)
        return solved.square().sum(0).view(jacobian.shape[1:])


class LinearizedDecoder(nn.Module):
    """``eta(z) + J(z) d``: a decoder that is linear in its weights, moved in a direction d.

    Args:
        network: eta, and its weights.
        direction: d.

    Example:
        >>> linear = nn.Linear(1, 1)
        >>> moved = LinearizedDecoder(linear, torch.tensor([2.0, 0.5]))
        >>> (moved(torch.ones(1, 1)) - linear(torch.ones(1, 1))).item()
        2.5
    """

    direction: Tensor

    def __init__(self, network: nn.Module, direction: WeightVector):
        super().__init__()
        self.network = network
        self.register_buffer("direction", direction)

    def forward(self, *inputs: Tensor) -> Tensor:
        def decoded(weights: Tensor) -> Tensor:
            return functional_call(self.network, named_weights(self.network, weights), inputs)

        eta, move = jvp(decoded, (weight_vector(self.network),), (self.direction,))[:2]
        return eta + move


def widest_weights(curvature: WeightVector, size: int) -> Int[Tensor, " S"]:
    """The weights of least curvature, and so of largest marginal variance; those of none come last.

    Example:
        >>> widest_weights(torch.tensor([3.0, 0.0, 1.0, 2.0]), 2)
        tensor([2, 3])
    """
    last = torch.where(curvature > 0, curvature, torch.inf)
    return last.argsort(stable=True)[:size].sort().values


def subset_curvature(model: LatentVariableModel, chosen: Int[Tensor, " S"], rows: CodedRows) -> Float[Tensor, "S S"]:
    """``sum_n J_S' F_n J_S`` over rows, in double precision."""
    total = torch.zeros(len(chosen), len(chosen), dtype=torch.float64, device=chosen.device)
    for batch, z in zip(rows.batches, rows.codes, strict=True):
        for part in torch.arange(len(z)).split(ROWS):
            some = batch.take(part)
            given = model.given(some.context)
            eta = given.decode(z[part], some.x)
            jacobian = subset_jacobian(given, chosen, z[part], some.x)
            rooted = torch.stack([given.likelihood.root(eta, each, some.mask) for each in jacobian]).flatten(1).double()
            total += rooted @ rooted.mT
    return total


def subset_jacobian(
    model: LatentVariableModel, chosen: Int[Tensor, " S"], z: Float[Tensor, "B D"], x: Tensor
) -> Float[Tensor, "S B P"]:
    """``d eta / d theta_S``, a product with the Jacobian for each weight of S."""
    weights = weight_vector(model.decoder).detach()

    def eta(vector: Tensor) -> Tensor:
        return functional_call(_Decoding(model), named_weights(model.decoder, vector, "model.decoder."), (z, x))

    return torch.cat([_along(eta, weights, part) for part in chosen.split(WEIGHTS)])


def _along(eta: Callable[[Tensor], Tensor], weights: Tensor, places: Tensor) -> Tensor:
    units = torch.zeros(len(places), len(weights)).to(weights)
    units[torch.arange(len(places)), places] = 1.0
    return vmap(lambda unit: jvp(eta, (weights,), (unit,))[1])(units)


class _Decoding(nn.Module):
    """eta of a model as a call, which ``functional_call`` can be given."""

    def __init__(self, model: LatentVariableModel):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.model.decode(z, x)
