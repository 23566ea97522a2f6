"""The contract of a model of sequences: frame by frame, each given those before it."""

from abc import ABC, abstractmethod
from math import log
from typing import NamedTuple

from jaxtyping import Float
from torch import Generator, Tensor, nn

from curvae.likelihoods import Likelihood
from curvae.sequences.frames import Frames
from curvae.typing import PerDatum, PerDraw


class SequenceBound(NamedTuple):
    """What a batch is worth."""

    value: PerDatum
    """A lower bound of ``log p(x_1..T)`` in expectation, nats."""
    surrogate: PerDatum
    """What is maximized, nats."""


class SequenceModel(nn.Module, ABC):
    """``p(x_1..T) = prod_t p(x_t | x_<t)`` of whatever was observed, with a state z of each step.

    Args:
        decoder: from a state (N, C) to eta of its frame.
        likelihood: of one frame.
    """

    decoder: nn.Module
    likelihood: Likelihood

    @abstractmethod
    def trained_bound(self, frames: Frames, samples: int) -> SequenceBound:
        """The bound, and what is maximized, by so many draws."""

    @abstractmethod
    def log_weights(self, frames: Frames, n: int, generator: Generator | None = None) -> PerDraw:
        """``log w`` of n draws, (S, B): ``E w = p(x_1..T)``; S is n, or less where draws go together."""

    @abstractmethod
    def states(self, frames: Frames, n: int, generator: Generator | None = None) -> Float[Tensor, "n B D"]:
        """Draws of the state at the last frame of each sequence, given all of it."""

    @abstractmethod
    def filtered(self, frames: Frames) -> Float[Tensor, "B T P"]:
        """The eta of each frame at the center of its state, given it and those before it."""

    @abstractmethod
    def rolled(
        self, frames: Frames, steps: int, n: int = 1, generator: Generator | None = None
    ) -> Float[Tensor, "n B K P"]:
        """The eta of so many frames after the last of each sequence, along n draws of what follows."""

    @abstractmethod
    def ahead(self, frames: Frames, gap: int, n: int, generator: Generator | None = None) -> Float[Tensor, "n B P"]:
        """The eta of the frame so many steps after the last of each sequence, for n draws of its state."""

    @abstractmethod
    def sample(self, n: int, steps: int, generator: Generator | None = None) -> Float[Tensor, "n T *frame"]:
        """Draw n sequences from ``p(x_1..T)``."""

    def decode(self, z: Float[Tensor, "*L C"]) -> Float[Tensor, "*L P"]:
        """The eta of states of any leading dimensions."""
        return self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])

    def mean(self, eta: Float[Tensor, "*L P"]) -> Float[Tensor, "*L_and_frame"]:
        """``E[x | eta]``; the most probable category where frames are categories."""
        mean = self.likelihood.mean(eta)
        return mean if mean.shape[eta.ndim - 1 :] == self.likelihood.event else mean.argmax(-1).to(eta.dtype)

    def predictive(
        self, frames: Frames, seen: int, gap: int, n: int, generator: Generator | None = None
    ) -> Float[Tensor, " B"]:
        """``log p(x_seen+gap | x_1..seen)``, nats, by n draws of the state there: on average too low by what they miss.

        ``log 1/n sum_s p(x | z_s)``.
        """
        eta = self.ahead(frames.first(seen), gap, n, generator)
        mask = None if frames.mask is None else frames.mask[:, seen + gap - 1]
        each = self.likelihood.log_prob(frames.x[:, seen + gap - 1], eta, mask)
        return each.logsumexp(0) - log(n)
