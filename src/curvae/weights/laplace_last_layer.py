"""Laplace's approximation of the last layer's weights, all others at their values."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.model import LatentVariableModel
from curvae.weights.evidence import evidence_precision
from curvae.weights.posterior import WeightPosterior
from curvae.weights.rows import CodedRows, information_diagonal
from curvae.weights.vectors import normal_vector


class LastLayerLaplace(WeightPosterior):
    r"""``q(W) = N(W^, (F x A + lambda)^-1)`` of the last layer, ``A = sum_n h_n h_n'``, F the information of outputs.

    eta is linear in these weights, so that is the exact posterior of a Gaussian likelihood, given all other weights and
    the codes. Where the information depends on the row its mean stands for it: a Kronecker-factored approximation.

    Args:
        prior_precision: lambda of ``N(0, I / lambda)``; None = by the evidence.

    Raises:
        ValueError: by :meth:`fit`, a decoder that does not end in a linear layer.
    """

    basis: Tensor
    """Eigenvectors of A, as columns; the last row is that of the bias."""
    strength: Tensor
    """Eigenvalues of A."""
    information: Tensor
    """F, (P,)."""
    precision: Tensor

    def __init__(self, prior_precision: float | None = None):
        super().__init__()
        self.prior_precision = prior_precision
        for name in ("basis", "strength", "information", "precision"):
            self.register_buffer(name, torch.zeros(0))

    @torch.no_grad()
    def fit(self, model: LatentVariableModel, rows: CodedRows) -> None:
        """See the rows, at the weights that the decoder has."""
        layer = last_linear(model.decoder)
        gram, information, count = 0.0, 0.0, 0
        for batch, z in zip(rows.batches, rows.codes, strict=True):
            given = model.given(batch.context)
            features = _with_one(features_of(given, layer, z, batch.x), layer)
            known = information_diagonal(given.likelihood, given.decode(z, batch.x), batch.mask)
            gram = gram + features.mT.double() @ features.double()
            decoded = known[
                :, :: given.likelihood.size // given.likelihood.outputs
            ]  # known errors are in turns with them
            information, count = information + decoded.sum(0), count + len(z)
        strength, basis = torch.linalg.eigh(rows.scale * torch.as_tensor(gram))
        self.basis, self.strength = basis.to(layer.weight), strength.clamp(min=0).to(layer.weight)
        self.information = torch.as_tensor(information) / count
        square = layer.weight.square().sum() + (0 if layer.bias is None else layer.bias.square().sum())
        by_evidence = evidence_precision(square, torch.outer(self.information, self.strength))
        known = self.prior_precision
        self.precision = by_evidence if known is None else torch.full_like(by_evidence, known)

    def networks(self, network: nn.Module, count: int, generator: torch.Generator | None = None) -> Iterator[nn.Module]:
        for _ in range(count):
            copy = deepcopy(network)
            if len(self.strength):
                self._move(last_linear(copy), generator)
            yield copy

    def variance(self, features: Float[Tensor, "B H"]) -> Float[Tensor, "B P"]:
        """The variance of each eta, features (with a one for the bias) being what the last layer is given."""
        along = (features @ self.basis).square()
        return along @ (torch.outer(self.information, self.strength) + self.precision).reciprocal().mT

    @torch.no_grad()
    def _move(self, layer: nn.Linear, generator: torch.Generator | None) -> None:
        deviation = (torch.outer(self.information, self.strength) + self.precision).rsqrt()
        step = (deviation * normal_vector(deviation, generator)) @ self.basis.mT
        layer.weight.add_(step[:, : layer.in_features])
        if layer.bias is not None:
            layer.bias.add_(step[:, -1])


def last_linear(network: nn.Module) -> nn.Linear:
    """The linear layer that a network ends in.

    Raises:
        ValueError: it ends in another one.
    """
    leaves = [each for each in network.modules() if not any(True for _ in each.children())]
    if not isinstance(last := leaves[-1], nn.Linear):
        raise ValueError(
            f"last-layer: expected a decoder that ends in a linear layer, got {type(last).__name__}; take another "
            "posterior over weights, or another decoder."
        )
    return last


def features_of(
    model: LatentVariableModel, layer: nn.Linear, z: Float[Tensor, "B D"], x: Tensor | None = None
) -> Float[Tensor, "B H"]:
    """What a layer of the decoder is given.

    Raises:
        ValueError: it is not given one row for each of z.
    """
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model.decode(z, x)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].shape != (len(z), layer.in_features):
        raise ValueError("last-layer: expected a decoder whose last layer sees each row once; got another.")
    return seen[0]


def _with_one(features: Tensor, layer: nn.Linear) -> Tensor:
    return features if layer.bias is None else torch.cat([features, torch.ones_like(features[:, :1])], 1)
