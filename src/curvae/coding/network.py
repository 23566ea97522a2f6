"""A network whose values are nodes, each the law of something that earlier nodes predict."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.distributions import ConditionalDistribution, kl

INPUT = 0
"""The number of the input among the nodes."""


@dataclass(frozen=True)
class Layer:
    """One node of a network, and what predicts it.

    Args:
        family: its law by numbers phi.
        predict: from the means of its parents, each (B, ...), to phi, (B, *shape, family.parameters).
        parents: earlier nodes by number: 0 is the input, 1 the node of the first layer.
        shape: of independent laws in the node: places of a text.
    """

    family: ConditionalDistribution
    predict: nn.Module
    parents: tuple[int, ...]
    shape: tuple[int, ...] = field(default=())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of phi."""
        return (*self.shape, self.family.parameters)


class CodingNetwork(nn.Module):
    """``F = sum_l KL(X_l(phi_l) || X_l(mu_l)) - log p(y | mu_L)``, ``mu_l = f_l(means of its parents; W_l)``, in nats.

    Nodes phi_1, ..., phi_L-1 are free; the input is given, and the last layer predicts the output, whose law is taken
    at y. A node may have several parents, and several children: connections around a layer are one more parent. Fixed
    normals give squared errors over twice their variance; an output of categories gives its cross entropy. F depends on
    W_l by the one term in which mu_l stands: its gradient there is local, given the nodes. Where every node is as
    predicted, F is the output's term alone.

    Args:
        layers: in an order in which parents come first; the last one is the output.

    Raises:
        ValueError: no layer, or a parent that does not come first.

    Example:
        >>> from curvae.distributions import FixedNormal
        >>> layers = [Layer(FixedNormal(4), nn.Linear(3, 4), (0,)), Layer(FixedNormal(2), nn.Linear(4, 2), (1,))]
        >>> network, x = CodingNetwork(layers), torch.randn(5, 3)
        >>> nodes, output = network.forward_pass(x)
        >>> nodes.shape, output.shape, network.energies(nodes, x, torch.zeros(5, 2))[:, 0].tolist()
        (torch.Size([5, 4]), torch.Size([5, 2]), [0.0, 0.0, 0.0, 0.0, 0.0])

    Reference: Pinchetti, Salvatori, Yordanov, Millidge, Song and Lukasiewicz, *Predictive Coding beyond Gaussian
    Distributions*, NeurIPS 2022, arXiv:2211.03481.

    Differences: what a layer sees of its parents are the means of their laws, probabilities where these are categories.
    """

    def __init__(self, layers: Sequence[Layer]):
        super().__init__()
        wrong = [k for k, layer in enumerate(layers, 1) if not all(0 <= parent < k for parent in layer.parents)]
        if not layers or wrong:
            got = f"parents {layers[wrong[0] - 1].parents} of layer {wrong[0]}" if wrong else "no layer"
            raise ValueError(f"CodingNetwork: expected layers whose parents come before them; got {got}.")
        self.layers = tuple(layers)
        self.predictors = nn.ModuleList(layer.predict for layer in layers)

    @property
    def size(self) -> int:
        """Q, how many numbers the free nodes of one example are."""
        return sum(prod(layer.sizes) for layer in self.layers[:-1])

    def forward_pass(self, x: Float[Tensor, "B ..."]) -> tuple[Float[Tensor, "B Q"], Tensor]:
        """All free nodes as they are predicted, one after the other, and the prediction of the output.

        The output is that of the network as any other is run: its gradient is backpropagation's.
        """
        values, nodes = [x], [x.new_zeros(len(x), 0, dtype=self._dtype)]
        for layer, predict in zip(self.layers[:-1], self.predictors, strict=False):
            phi = predict(*(values[parent] for parent in layer.parents))
            nodes.append(phi.flatten(1))
            values.append(layer.family(phi).mean)
        output = self.predictors[-1](*(values[parent] for parent in self.layers[-1].parents))
        return torch.cat(nodes, dim=1), output

    def energies(self, nodes: Float[Tensor, "B Q"], x: Float[Tensor, "B ..."], y: Tensor) -> Float[Tensor, "B L"]:
        """The terms of F of each example, nats.

        Args:
            nodes: the free ones.
            x: the input.
            y: the output, as its law has it: one-hot where it is one of categories.
        """
        mine = self._split(nodes)
        values = [x, *(layer.family(phi).mean for layer, phi in zip(self.layers[:-1], mine, strict=True))]
        terms = []
        for k, (layer, predict) in enumerate(zip(self.layers, self.predictors, strict=True)):
            predicted = layer.family(predict(*(values[parent] for parent in layer.parents)))
            free = k < len(mine)
            each = cast(Tensor, kl(layer.family(mine[k]), predicted)) if free else -predicted.log_prob(y).unsqueeze(-1)
            terms.append(each.flatten(1).sum(-1))
        return torch.stack(terms, dim=-1)

    def natural_gradient(self, nodes: Float[Tensor, "B Q"], slope: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """The slope of F in the nodes, by the Fisher information of each node's own law."""
        parts = zip(self.layers[:-1], self._split(nodes), self._split(slope), strict=True)
        every = [layer.family.natural_gradient(phi, part).flatten(1) for layer, phi, part in parts]
        return torch.cat(every, dim=1) if every else slope

    def _split(self, nodes: Float[Tensor, "B Q"]) -> list[Tensor]:
        """Node by node, (B, *shape, parameters)."""
        ends = [0]
        for layer in self.layers[:-1]:
            ends.append(ends[-1] + prod(layer.sizes))
        parts = zip(self.layers[:-1], pairwise(ends), strict=True)
        return [nodes[:, low:high].unflatten(1, layer.sizes) for layer, (low, high) in parts]

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype
