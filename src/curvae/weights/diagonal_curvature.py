"""The diagonal of the Gauss-Newton matrix of any decoder's weights, over training rows."""

from typing import Literal

import torch
from torch import Tensor, nn

from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.typing import Batch
from curvae.weights.layerwise import layerwise_diagonal, plain_layers
from curvae.weights.rows import CodedRows, information_diagonal
from curvae.weights.vectors import WeightVector, weight_vector

Way = Literal["exact", "approximate", "sampled"]
PART = 16
"""Rows at a time: of gradients, whose squares are the better an estimate the fewer rows share one; of matrices."""


def diagonal_curvature(model: LatentVariableModel, rows: CodedRows, way: Way = "exact") -> WeightVector:
    r"""``sum_n diag(J_n' F_n J_n)``, with J the derivative of eta by the decoder's weights and F the information.

    Where the decoder is no plain stack of layers, or is given something of each row, it is the mean square of
    ``d log p(x | z) / d theta`` over draws of x from the model, whose expectation is the same: "sampled".

    Args:
        model: its decoder's weights are asked about.
        rows: with a code each.
        way: see :func:`curvae.weights.layerwise_diagonal`.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(1), torch.nn.Linear(1, 1), Gaussian(1, scale=0.5))
        >>> rows = CodedRows([Batch.of(torch.zeros(1, 1))], [torch.tensor([[3.0]])])
        >>> diagonal_curvature(model, rows)   # (3^2, 1) / 0.5^2
        tensor([36.,  4.])
    """
    layers = plain_layers(model.decoder) if model.by_latents_alone else []
    total = torch.zeros_like(weight_vector(model.decoder).detach())
    for batch, z in zip(rows.batches, rows.codes, strict=True):
        for part in torch.arange(len(z)).split(PART):
            some = batch.take(part)
            if layers and way != "sampled":
                eta = model.decode(z[part]).detach()
                information = information_diagonal(model.likelihood, eta, some.mask)
                total += layerwise_diagonal(layers, z[part], information, way == "exact")
            else:
                total += _sampled_square(model.given(some.context), some, z[part])
    return rows.scale * total


def network_diagonal(
    network: nn.Module, rows: Tensor, likelihood: Likelihood, mask: Tensor | None = None, way: Way = "exact"
) -> WeightVector:
    """The same of any network whose output is eta, and which sees rows of whatever comes in."""
    layers = plain_layers(network)
    if not layers or way == "sampled":
        with torch.enable_grad():
            return _squared_slope(network(rows).flatten(1), list(network.parameters()), likelihood, mask)
    with torch.no_grad():
        information = information_diagonal(likelihood, network(rows).flatten(1), mask)
    return layerwise_diagonal(layers, rows, information, way == "exact")


@torch.enable_grad()
def _sampled_square(model: LatentVariableModel, batch: Batch, z: Tensor) -> WeightVector:
    return _squared_slope(model.decode(z, batch.x), list(model.decoder.parameters()), model.likelihood, batch.mask)


def _squared_slope(eta: Tensor, weights: list[nn.Parameter], likelihood: Likelihood, mask: Tensor | None) -> Tensor:
    """The square of the gradient of ``log p(x | eta)``, x drawn from there: rows are independent and its mean is 0, so
    the square of the sum over rows has the expectation of the sum of squares."""
    score = likelihood.score(likelihood.sample(eta.detach()), eta.detach(), mask)
    slopes = torch.autograd.grad(eta, weights, score, allow_unused=True)
    pairs = zip(slopes, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).reshape(-1).square() for g, w in pairs]).detach()
