"""Inference in a predictive coding network: the free nodes descend the energy."""

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.coding.network import CodingNetwork
from curvae.inference.energy_descent import Energy, Numbers, descended
from curvae.typing import EMPTY, PerDatum, State


class Settled(NamedTuple):
    """Where the nodes are when the weights learn from them."""

    nodes: Float[Tensor, "B Q"]
    energy: Float[Tensor, "T B"]
    """F before each step and at the end, nats; it never rises."""
    state: State = EMPTY
    """New values of the descent's own buffers."""


class NodeDescent(nn.Module):
    """The free nodes of a :class:`CodingNetwork` descend F from the forward pass, ``phi_l = mu_l``.

    The steps are taken in the errors, ``e_l = phi_l - mu_l``: F is then the loss at the end of a forward pass with
    errors on the way, and a divergence for each of these. ``e <- e - rate G^-1 dF/de``, G the Fisher information of
    each node's law. The first step takes all errors to multiples of what backpropagation has there,
    ``G e_l = -rate dF/dmu_l``; where F is least they are those of predictive coding, in whatever coordinates it is
    sought. ``by_errors=False`` takes steps in the nodes instead, as published: an error goes one layer on with each,
    and the steepest direction of any node rules the rate of all. Rates are each example's, as
    :func:`curvae.inference.energy_descent.descended` adapts them.

    All steps are taken in a call, and the weights learn from F at their end, by a gradient that does not go through
    them. Incremental, a call takes *one* step from where the nodes of the same batch were left, and the weights learn
    from F after it: both move at once. The batch at hand is kept in buffers; after ``steps`` calls, or for another
    batch, it begins anew.

    Args:
        steps: number T of steps.
        rate: of the first step.
        incremental: whether nodes and weights move together.
        by_errors: whether steps are taken in the errors or in the nodes.

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
    incremental: Salvatori et al., *Incremental Predictive Coding*, arXiv:2212.00720; steps in the errors: Goemaere,
    Oliviers, Bogacz and Demeester, arXiv:2505.20137.

    Differences: natural gradients; rates adapt to each example, so that F never rises.
    """

    per_batch: ClassVar[tuple[str, ...]] = ("nodes", "rates", "rows", "calls")
    nodes: Float[Tensor, "B Q"]
    rates: Float[Tensor, " B"]
    rows: Int[Tensor, " B"]
    calls: Int[Tensor, ""]

    def __init__(self, steps: int = 2, rate: float = 0.7, incremental: bool = False, by_errors: bool = True):
        super().__init__()
        if steps < 1 or not rate > 0:
            raise ValueError(f"NodeDescent: steps must be >= 1 and rate > 0; got steps={steps}, rate={rate}.")
        self.steps, self.rate, self.incremental, self.by_errors = steps, rate, incremental, by_errors
        self.register_buffer("nodes", torch.empty(0, 0), persistent=False)
        self.register_buffer("rates", torch.empty(0), persistent=False)
        self.register_buffer("rows", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("calls", torch.tensor(0), persistent=False)

    @torch.no_grad()
    def forward(self, network: CodingNetwork, x: Float[Tensor, "B ..."], y: Tensor, rows: Int[Tensor, " B"]) -> Settled:
        """The nodes of a batch; ``rows`` tells it from others."""
        one = self.incremental and self.training
        known = bool((rows >= 0).all()) and torch.equal(self.rows, rows)
        goes_on = one and known and 0 < int(self.calls) < self.steps
        nodes = self.nodes if goes_on else network.forward_pass(x)[0]
        rate = self.rates if goes_on else torch.full_like(nodes[:, 0], self.rate)
        at = nodes if not self.by_errors else network.errors(nodes, x) if goes_on else torch.zeros_like(nodes)
        path: list[PerDatum] = []
        for _ in range(1 if one else self.steps):
            step = descended(self._energy(network, x, y), at, rate, network.natural_gradient)
            at, rate, nodes = step.coordinates, step.rate, step.phi
            path = [*path[:-1], step.before, step.after]
        calls = self.calls + 1 if goes_on else torch.ones_like(self.calls)
        state = {"nodes": nodes, "rates": rate, "rows": rows, "calls": calls} if one else EMPTY
        return Settled(nodes, torch.stack(path), state)

    def _energy(self, network: CodingNetwork, x: Tensor, y: Tensor) -> Energy:
        """F and the nodes, by what steps are taken in."""

        def by_nodes(nodes: Numbers) -> tuple[PerDatum, Numbers]:
            return network.energies(nodes, x, y).sum(-1), nodes

        def by_errors(errors: Numbers) -> tuple[PerDatum, Numbers]:
            terms, nodes = network.displaced(errors, x, y)
            return terms.sum(-1), nodes

        return by_errors if self.by_errors else by_nodes
