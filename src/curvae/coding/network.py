"""A network whose values are nodes, each the law of something that earlier nodes predict."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.distributions import ConditionalDistribution, kl


@dataclass(frozen=True)
class Layer:
    """One node of a network, and what predicts it.

    Args:
        family: its law by numbers phi.
        predict: from the means of its parents, each (B, ...), to phi, (B, *shape, family.parameters).
        parents: earlier nodes by number: 0 is the input, 1 the node of the first layer.
        shape: of independent laws in the node: places of a text.
        draws: of each law that the node stands for: so often its divergence counts. It is to a law of categories what
            the inverse variance is to a normal one; of the output it is 1.
    """

    family: ConditionalDistribution
    predict: nn.Module
    parents: tuple[int, ...]
    shape: tuple[int, ...] = field(default=())
    draws: float = 1.0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of phi."""
        return (*self.shape, self.family.parameters)


class CodingNetwork(nn.Module):
    """``F = sum_l n_l KL(X_l(phi_l) || X_l(mu_l)) - log p(y | mu_L)``, ``mu_l = f_l(parents; W_l)``, in nats.

    Nodes phi_1, ..., phi_L-1 are free; the input is given, and the last layer predicts the output, whose law is taken
    at y. What f_l sees are the means of its parents' laws; n_l is 1 unless a layer says otherwise. A node may have
    several parents, and several children: a connection around a layer is one more parent.

    Fixed normals give squared errors over twice their variance; an output of categories gives its cross entropy. F
    depends on W_l by the one term in which mu_l stands: its gradient there is local, given the nodes. Where every node
    is as predicted, F is the output's term alone.

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
        return sum(self._sizes)

    def forward_pass(self, x: Float[Tensor, "B ..."]) -> tuple[Float[Tensor, "B Q"], Tensor]:
        """All free nodes as they are predicted, one after the other, and the prediction of the output.

        The output is that of the network as any other is run: its gradient is backpropagation's.
        """
        nodes, values = [x.new_zeros(len(x), 0, dtype=next(self.parameters()).dtype)], [x]
        for number, layer in enumerate(self.layers[:-1]):
            phi = self._predicted(number, values)
            nodes.append(phi.flatten(1))
            values.append(layer.family(phi).mean)
        return torch.cat(nodes, 1), self._predicted(len(self.layers) - 1, values)

    def energies(self, nodes: Float[Tensor, "B Q"], x: Float[Tensor, "B ..."], y: Tensor) -> Float[Tensor, "B L"]:
        """The terms of F of each example, nats.

        Args:
            nodes: the free ones.
            x: the input.
            y: the output, as its law has it: one-hot where it is one of categories.
        """
        mine = self._split(nodes)
        values = [x, *(layer.family(phi).mean for layer, phi in zip(self.layers[:-1], mine, strict=True))]
        predicted = [self._predicted(number, values) for number in range(len(self.layers))]
        return self._terms(mine, predicted, y)

    def displaced(
        self, errors: Float[Tensor, "B Q"], x: Float[Tensor, "B ..."], y: Tensor
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B Q"]]:
        """The terms of F where ``phi_l = mu_l + error_l``, and these nodes: a forward pass with errors on the way.

        F is the same function, in other coordinates: what follows a node moves with it.
        """
        mine, predicted, values = [], [], [x]
        for number, (layer, error) in enumerate(zip(self.layers[:-1], self._split(errors), strict=True)):
            predicted.append(self._predicted(number, values))
            mine.append(predicted[-1] + error)
            values.append(layer.family(mine[-1]).mean)
        predicted.append(self._predicted(len(self.layers) - 1, values))
        return self._terms(mine, predicted, y), self._joined(mine, errors)

    def errors(self, nodes: Float[Tensor, "B Q"], x: Float[Tensor, "B ..."]) -> Float[Tensor, "B Q"]:
        """``phi_l - mu_l``."""
        mine = self._split(nodes)
        values = [x, *(layer.family(phi).mean for layer, phi in zip(self.layers[:-1], mine, strict=True))]
        return self._joined([phi - self._predicted(number, values) for number, phi in enumerate(mine)], nodes)

    def natural_gradient(self, nodes: Float[Tensor, "B Q"], slope: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """A slope in the nodes, or in their errors, by the Fisher information of each node's own law."""
        parts = zip(self.layers[:-1], self._split(nodes), self._split(slope), strict=True)
        every = [layer.family.natural_gradient(phi, part) / layer.draws for layer, phi, part in parts]
        return self._joined(every, slope)

    def _predicted(self, number: int, values: Sequence[Tensor]) -> Tensor:
        return self.predictors[number](*(values[parent] for parent in self.layers[number].parents))

    def _terms(self, nodes: Sequence[Tensor], predicted: Sequence[Tensor], y: Tensor) -> Float[Tensor, "B L"]:
        laws = [layer.family(mu) for layer, mu in zip(self.layers, predicted, strict=True)]
        free = zip(self.layers[:-1], nodes, laws[:-1], strict=True)
        each = [layer.draws * cast(Tensor, kl(layer.family(phi), law)) for layer, phi, law in free]
        each.append(-laws[-1].log_prob(y).unsqueeze(-1))
        return torch.stack([term.flatten(1).sum(-1) for term in each], dim=-1)

    @property
    def _sizes(self) -> list[int]:
        return [prod(layer.sizes) for layer in self.layers[:-1]]

    def _split(self, nodes: Float[Tensor, "B Q"]) -> list[Tensor]:
        """Node by node, (B, *shape, parameters)."""
        parts = zip(self.layers[:-1], nodes.split(self._sizes, 1), strict=True)
        return [part.unflatten(1, layer.sizes) for layer, part in parts]

    def _joined(self, nodes: Sequence[Tensor], like: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        return torch.cat([node.flatten(1) for node in nodes], 1) if nodes else like
