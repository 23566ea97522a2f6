"""The diagonal of the Gauss-Newton matrix of any decoder's weights, over training rows."""

from typing import Literal

import torch
from torch import Tensor

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
        way: see :mod:`curvae.weights.layerwise`.

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


@torch.enable_grad()
def _sampled_square(model: LatentVariableModel, batch: Batch, z: Tensor) -> WeightVector:
    """The square of the gradient of ``log p(x | z)``, x drawn from the model: rows are independent and its mean is 0,
    so the square of the sum has the expectation of the sum of squares."""
    eta = model.decode(z, batch.x)
    score = model.likelihood.score(model.likelihood.sample(eta.detach()), eta.detach(), batch.mask)
    weights = list(model.decoder.parameters())
    slopes = torch.autograd.grad(eta, weights, score, allow_unused=True)
    pairs = zip(slopes, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).reshape(-1).square() for g, w in pairs]).detach()
