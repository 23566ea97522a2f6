"""Systems whose log p(x) is exact: each element given those before it, by a network of predictive coding."""

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from curvae.coding import CodingNetwork, NodeDescent
from curvae.distributions import OneHot
from curvae.likelihoods import Categorical
from curvae.objectives import Bound, Kind
from curvae.systems.base import Evidence, System
from curvae.systems.stages import Stage
from curvae.typing import Batch, PerDatum


class CodingDensity(System):
    """``log p(x) = sum_t log p(x_t | x_<t)`` of examples of categories, by a causal network: exact.

    With a descent the network learns by predictive coding: what is maximized is ``-F`` at the nodes where the descent
    leaves them, no bound of log p(x), whose gradient is local to each layer. Without one it learns by backpropagation.
    log p(x), samples and all else are those of the forward pass.

    The density of the first elements is their part of the sum, so that of the rest *given* them is the difference of
    two: ``log_prob(x) - log_prob(x, mask)`` where the mask is True for the elements that are given.

    Args:
        event: shape of one example; its elements stand one after the other.
        network: from x to logits, (B, T, categories), of which place t depends on elements before t alone; or to
            probabilities, where its output is not one of categories.
        likelihood: of the elements, flat.
        descent: of the free nodes; None for backpropagation.

    Raises:
        ValueError: by everything that takes a mask, where an element is missing that others follow.

    Example:
        >>> from curvae.systems import pc_transformer
        >>> from curvae.typing import DataSpec
        >>> system = pc_transformer(DataSpec((5,), "category", 3), width=8, heads=2, hidden=8)
        >>> x = torch.tensor([[0.0, 2, 1, 1, 0]])
        >>> given = torch.tensor([[True, True, False, False, False]])
        >>> (system.log_prob(x) - system.log_prob(x, given)).shape, system.sample(3).shape
        (torch.Size([1]), torch.Size([3, 5]))
    """

    evidence: Evidence = "exact"

    def __init__(
        self, event: tuple[int, ...], network: CodingNetwork, likelihood: Categorical, descent: NodeDescent | None
    ):
        super().__init__()
        self.event = event
        self.network = network
        self.likelihood = likelihood
        self.descent = descent
        self.kind: Kind = "lower" if descent is None else "none"
        incremental = descent is not None and descent.incremental
        self._stages = (Stage("train", repeat=descent.steps if descent is not None and incremental else 1),)

    def bound(self, batch: Batch) -> Bound:
        """The density, and in training by predictive coding ``-F`` as what is maximized.

        Raises:
            ValueError: elements are missing where it learns by predictive coding.
        """
        if self.descent is None or not self.training:
            value = self.log_prob(batch.x, batch.mask)
            return Bound(value, value)
        if batch.mask is not None and not bool(batch.mask.all()):
            raise ValueError("predictive coding: expected whole rows, got missing elements; use backpropagation.")
        x = batch.x.flatten(1)
        y = one_hot(x.long(), self.likelihood.categories).to(next(self.parameters()).dtype)
        with torch.no_grad():
            value = self.log_prob(batch.x)
        found = self.descent(self.network, x, y, batch.index)
        surrogate = -self.network.energies(found.nodes, x, y).sum(-1)
        state = {f"descent.{name}": new for name, new in found.state.items()}
        return Bound(value, surrogate, {"energy": found.energy}, state)

    def log_prob(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> PerDatum:
        """``log p(x)`` in nats; of the first elements alone where a mask leaves out all after them."""
        seen = None if mask is None else mask.flatten(1)
        return self.likelihood.log_prob(x.flatten(1), self.logits(x, mask).flatten(1), seen)

    def logits(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> Float[Tensor, "B T K"]:
        """Those of each element given the ones before it."""
        output = self.network.forward_pass(self._tokens(x, mask))[1]
        if isinstance(self.network.layers[-1].family, OneHot):
            return output
        return output.clamp(min=torch.finfo(output.dtype).tiny).log()

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Shaped[Tensor, "n *event"]:
        """Draw x, element by element; exact."""
        device = next(self.parameters()).device
        return self.continued(torch.zeros(n, *self.event, device=device), 0, generator)

    @torch.no_grad()
    def continued(
        self, x: Float[Tensor, "B *event"], given: int, generator: Generator | None = None
    ) -> Shaped[Tensor, "B *event"]:
        """The first ``given`` elements as they are, and a draw of all others given them.

        Raises:
            ValueError: fewer than none are given, or more than there are.
        """
        size = torch.Size(self.event).numel()
        if not 0 <= given <= size:
            raise ValueError(f"continued: given must be from 0 to {size}; got {given}.")
        drawn = x.flatten(1).clone()
        drawn[:, given:] = 0
        for place in range(given, size):
            p = self.logits(drawn)[:, place].softmax(-1)
            drawn[:, place] = torch.multinomial(p, 1, generator=generator).squeeze(1).to(drawn)
        return drawn.reshape(x.shape)

    def _tokens(self, x: Tensor, mask: Tensor | None) -> Shaped[Tensor, "B T"]:
        if mask is not None and bool((mask.flatten(1).diff(dim=1) & ~mask.flatten(1)[:, :-1]).any()):
            raise ValueError(
                f"{type(self).__name__}: expected rows that are whole, or whose last elements are missing; got gaps "
                "with elements after them, whose density has no closed form. Fill them in."
            )
        return x.flatten(1)
