"""Inference in a predictive coding network: the free nodes descend the energy."""

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.coding.network import CodingNetwork
from curvae.inference.energy_descent import Energy, Point, descended, start_descent
from curvae.typing import EMPTY, PerDatum, State


class Descended(NamedTuple):
    """Where the nodes are when the weights learn from them."""

    nodes: Float[Tensor, "B Q"]
    energy: Float[Tensor, "T B"]
    """F before each step and at the end, nats; it never rises."""
    state: State = EMPTY
    """New values of the descent's own buffers."""


class NodeDescent(nn.Module):
    """``phi <- phi - rate G^-1 dF/dphi``, from ``phi_l = mu_l``: the free nodes of a :class:`CodingNetwork`.

    G is the Fisher information of each node's law, so a node of probabilities moves by the slope in its probabilities
    and a normal one by the slope times its variance, whatever numbers say which law it is; ``natural=False`` leaves it
    out. Near the forward pass a full step of rate 1 takes an error one layer on toward the input, and as errors go to 0
    they become those of backpropagation. Rates are each example's, as :func:`curvae.inference.energy_descent.descended`
    adapts them.

    All steps are taken in a call, and the weights learn from F at their end, by a gradient that does not go through
    them. Incremental, a call takes *one* step from where the last call left the same batch, and the weights learn from
    F where that step began: both move at once. The batch at hand is kept in buffers; after ``steps`` calls, or for
    another batch, it begins anew.

    Args:
        steps: number T of steps.
        rate: of the first step.
        incremental: whether nodes and weights move together.
        natural: whether steps go by the Fisher information.

    Raises:
        ValueError: fewer than 1 step, or a rate that is not positive.

    Example:
        >>> from curvae.coding import Layer
        >>> from curvae.distributions import FixedNormal
        >>> layers = [Layer(FixedNormal(4), nn.Linear(3, 4), (0,)), Layer(FixedNormal(2), nn.Linear(4, 2), (1,))]
        >>> found = NodeDescent(steps=5)(CodingNetwork(layers), torch.randn(6, 3), torch.randn(6, 2), torch.arange(6))
        >>> found.nodes.shape, found.energy.shape, bool((found.energy.diff(dim=0) <= 0).all())
        (torch.Size([6, 4]), torch.Size([6, 6]), True)

    Reference: Pinchetti et al., *Predictive Coding beyond Gaussian Distributions*, NeurIPS 2022, arXiv:2211.03481;
    incremental: Salvatori et al., *Incremental Predictive Coding*, arXiv:2212.00720.

    Differences: natural gradients; rates adapt to each example, so that F never rises.
    """

    per_batch: ClassVar[tuple[str, ...]] = ("nodes", "rates", "rows", "calls")
    nodes: Float[Tensor, "B Q"]
    rates: Float[Tensor, " B"]
    rows: Int[Tensor, " B"]
    calls: Int[Tensor, ""]

    def __init__(self, steps: int = 8, rate: float = 0.5, incremental: bool = False, natural: bool = True):
        super().__init__()
        if steps < 1 or not rate > 0:
            raise ValueError(f"NodeDescent: steps must be >= 1 and rate > 0; got steps={steps}, rate={rate}.")
        self.steps, self.rate, self.incremental, self.natural = steps, rate, incremental, natural
        self.register_buffer("nodes", torch.empty(0, 0), persistent=False)
        self.register_buffer("rates", torch.empty(0), persistent=False)
        self.register_buffer("rows", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("calls", torch.tensor(0), persistent=False)

    @torch.no_grad()
    def forward(
        self, network: CodingNetwork, x: Float[Tensor, "B ..."], y: Tensor, rows: Int[Tensor, " B"]
    ) -> Descended:
        """The nodes of a batch; ``rows`` tells it from others."""

        def energy(nodes: Float[Tensor, "B Q"]) -> PerDatum:
            return network.energies(nodes, x, y).sum(-1)

        if self.incremental and self.training:
            return self._one(network, energy, x, rows)
        path = [self._start(network, energy, x)]
        for _ in range(self.steps):
            path.append(self._step(network, energy, path[-1]))
        return Descended(path[-1].states, torch.stack([point.energy for point in path]))

    def _start(self, network: CodingNetwork, energy: Energy, x: Tensor) -> Point:
        nodes, _ = network.forward_pass(x)
        return start_descent(energy, nodes, torch.full_like(nodes[:, 0], self.rate))

    def _step(self, network: CodingNetwork, energy: Energy, at: Point) -> Point:
        return descended(energy, at, network.natural_gradient(at.states, at.slope) if self.natural else None)

    def _one(self, network: CodingNetwork, energy: Energy, x: Tensor, rows: Int[Tensor, " B"]) -> Descended:
        """The nodes as they are, and, as new values of the buffers, where one step leads them."""
        known = bool((rows >= 0).all()) and torch.equal(self.rows, rows)
        begun = known and 0 < int(self.calls) < self.steps
        before = start_descent(energy, self.nodes, self.rates) if begun else self._start(network, energy, x)
        after = self._step(network, energy, before)
        calls = self.calls + 1 if begun else torch.ones_like(self.calls)
        state = {"nodes": after.states, "rates": after.rate, "rows": rows, "calls": calls}
        return Descended(before.states, torch.stack([before.energy, after.energy]), state)
