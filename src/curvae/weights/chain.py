"""The last weights of a Markov chain, and the prior under which it moves."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.linalg import LOG_2PI
from curvae.typing import State
from curvae.weights.posterior import SampledWeights, choose_rows
from curvae.weights.vectors import WeightVector, group_slices

SHAPE, RATE = 1.0, 1.0
"""Of the Gamma hyperprior of precisions."""


class WeightChain(SampledWeights):
    r"""``q(theta) = 1/K sum_k delta(theta - theta_k)``: the last K weights that a chain came to, some steps apart.

    The prior of each parameter tensor is ``N(0, I / lambda)``; its lambda is a constant, or has a Gamma(1, 1) prior and
    is drawn anew with each weight that is kept, from ``Gamma(1 + W/2, 1 + |theta|^2 / 2)``, which is Gibbs' step.

    Args:
        network: the decoder.
        size: K.
        every: steps between two that are kept.
        prior_precision: lambda; None = drawn.

    Raises:
        ValueError: fewer than 1 step or weight.

    Example:
        >>> chain = WeightChain(nn.Linear(2, 1), size=2, every=1)
        >>> chain.begin(torch.zeros(3), 100)
        >>> for value in (1.0, 2.0, 3.0):
        ...     for name, buffer in chain.visited(torch.full((3,), value)).items():
        ...         _ = getattr(chain, name).copy_(buffer)
        >>> sorted(draw[0].item() for draw in chain.draw(torch.zeros(3), 2))
        [2.0, 3.0]
    """

    kept: Tensor
    """(K, W), in turns."""
    precision: Tensor
    """lambda of each parameter tensor."""
    steps: Tensor
    count: Tensor

    def __init__(self, network: nn.Module, size: int = 20, every: int = 20, prior_precision: float | None = None):
        super().__init__()
        check_least("WeightChain", 1, size=size, every=every)
        self.size, self.every, self.prior_precision = size, every, prior_precision
        self.groups = group_slices(network)
        self.register_buffer("kept", torch.zeros(0))
        self.register_buffer("precision", torch.full((len(self.groups),), prior_precision or 1.0))
        for name in ("steps", "count"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))

    def begin(self, weights: WeightVector, rows: int) -> None:
        """Make room; the chain has come to nothing yet."""
        self.rows.fill_(rows)
        self.kept = weights.new_zeros(self.size, len(weights))
        self.precision = self._drawn_precision(weights)
        self.steps.zero_()
        self.count.zero_()

    @torch.no_grad()
    def visited(self, weights: WeightVector) -> State:
        """The new values of buffers after a step to these weights."""
        steps = self.steps + 1
        if int(steps) % self.every:
            return {"steps": steps}
        kept = self.kept.clone()
        kept[int(self.count) % self.size] = weights
        return {"steps": steps, "count": self.count + 1, "kept": kept, "precision": self._drawn_precision(weights)}

    def log_prior(self, weights: WeightVector) -> Tensor:
        """``log p(theta)`` in nats."""
        squares = torch.stack([weights[group].square().sum() for group in self.groups])
        sizes = torch.tensor([group.stop - group.start for group in self.groups]).to(squares)
        return 0.5 * (sizes * (self.precision.log() - LOG_2PI) - self.precision * squares).sum()

    def middle(self) -> WeightVector | None:
        """The mean of the weights that are kept; None before the first."""
        return self._found.mean(0) if int(self.count) else None

    def draw(
        self, center: WeightVector, count: int, generator: torch.Generator | None = None
    ) -> Iterator[WeightVector]:
        found = self._found if int(self.count) else center.unsqueeze(0)
        for number in choose_rows(len(found), count, generator):
            yield found[number]

    @property
    def _found(self) -> Tensor:
        return self.kept[: int(self.count)]

    def _drawn_precision(self, weights: WeightVector) -> Tensor:
        if self.prior_precision is not None:
            return self.precision
        squares = torch.stack([weights[group].square().sum() for group in self.groups])
        sizes = torch.tensor([group.stop - group.start for group in self.groups]).to(squares)
        return torch.distributions.Gamma(SHAPE + 0.5 * sizes, RATE + 0.5 * squares).sample()
