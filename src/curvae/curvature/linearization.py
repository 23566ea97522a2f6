"""log p(x, z) of a batch near a point z: what searches, Laplace posteriors and proposals ask of a decoder.

Every kind gives ``Lam = J'FJ + prior.precision(z)`` with ``J = d eta / dz`` and F the expected information of the
likelihood; they differ in what they know of the decoder.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from curvae.typing import Batch, Latent, Matrix, PerDatum

MEMORY = 2**24
"""Bytes that several products may take at once; one is always let through."""

Product = Callable[[Tensor], Tensor]
"""``v -> Lam v``, linear in a vector of each example."""


class LocalExpansion(NamedTuple):
    """log p(x, z) near a point."""

    log_joint: PerDatum
    grad: Float[Tensor, "B D"]
    precision: Matrix


@runtime_checkable
class Frame(Protocol):
    """What a linearization knows of its batch, wherever z is."""

    @property
    def model(self) -> LatentVariableModel: ...
    @property
    def variance(self) -> Float[Tensor, "B D"] | None:
        """An estimate of the diagonal of ``Lam^-1``, where one is known."""
        ...

    def take(self, rows: Int[Tensor, " n"]) -> "Frame":
        """The same for some of the data."""
        ...


class Linearization(ABC):
    """log p(x, z) of a batch near z to second order: value, gradient, precision and products; immutable.

    It is evaluated in the mode, with gradients or without, in which it is first asked; :meth:`detach` drops the graph.
    ``near.at(z)`` is the same elsewhere, ``near.take(rows)`` for some of the data.

    Args:
        frame: what is known of the batch.
        z: the point.
        tensors: what was evaluated there, the log joint first; by default it is when it is first asked for.
    """

    batched: bool
    """Whether the decoder's products can be taken with several vectors at once."""
    locally_constant: bool
    """Whether Lam does not change within a linear piece of the decoder."""

    def __init__(self, frame: Frame, z: Float[Tensor, "B D"], tensors: tuple[Tensor, ...] | None = None):
        self.frame = frame
        self.z = z
        self._tensors = tensors
        self._precision: Matrix | None = None

    @classmethod
    @abstractmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        """Whether this kind is exact for this decoder, likelihood and batch."""

    @classmethod
    @abstractmethod
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Linearization":
        """At z, which is near the other points that will be asked for."""

    @abstractmethod
    def _evaluated(self) -> tuple[Tensor, ...]:
        """``log p(x, z)``, and what the derivatives are made of, each (B, ...)."""

    @abstractmethod
    def _score(self) -> Float[Tensor, "B P"]:
        """The slope s of the log-likelihood in the last layer that is known of the decoder."""

    @property
    @abstractmethod
    def push(self) -> Product:
        """``v -> J v``, J the Jacobian of that layer."""

    @property
    @abstractmethod
    def pull(self) -> Product:
        """``u -> J'u``."""

    @property
    @abstractmethod
    def inform(self) -> Product:
        """``u -> F u``, F the information about that layer."""

    @abstractmethod
    def _likelihood(self) -> tuple[Float[Tensor, "B D"], Matrix]:
        """``J's`` and ``J'FJ``."""

    @property
    def model(self) -> LatentVariableModel:
        return self.frame.model

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What was evaluated at z, the log joint first."""
        if self._tensors is None:
            self._tensors = self._evaluated()
        return self._tensors

    @property
    def log_joint(self) -> PerDatum:
        """``log p(x, z)``."""
        return self.tensors[0]

    def grad(self) -> Float[Tensor, "B D"]:
        """``d log p(x, z) / dz``."""
        return self.pull(self._score()) + self.model.prior.score(self.z)

    def local(self) -> LocalExpansion:
        """The value, the gradient and the precision."""
        (grad, information), prior = self._likelihood(), self.model.prior
        return LocalExpansion(self.log_joint, grad + prior.score(self.z), information + prior.precision(self.z))

    def product(self, v: Latent) -> Latent:
        """``Lam v`` for any number of vectors of each example; Lam is not formed."""
        return self._information(v) + self._prior(v)

    def residual(self, step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``grad - Lam step`` by vector products alone: nothing of size D x D or D x P is formed.

        It is 0 at the Newton step, and its derivative there, solved with Lam, is that of the step.
        """
        rest = self.pull(self._score() - self.inform(self.push(step)))
        return rest + self.model.prior.score(self.z) - self._prior(step)

    def at(self, z: Float[Tensor, "B D"]) -> "Linearization":
        """The same for another point, evaluated there."""
        there = type(self)(self.frame, z)
        _ = there.tensors
        return there

    def detach(self) -> "Linearization":
        """Without the graph."""
        return type(self)(self.frame, self.z.detach(), tuple(one.detach() for one in self.tensors))

    def take(self, rows: Int[Tensor, " n"]) -> "Linearization":
        """The same for some of the data."""
        return type(self)(self.frame.take(rows), self.z[rows], tuple(one[rows] for one in self.tensors))

    def where(self, chosen: Bool[Tensor, " B"], other: "Linearization") -> "Linearization":
        """This where chosen, the other elsewhere."""

        def pick(mine: Tensor, others: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *(1,) * (mine.ndim - 1)), mine, others)

        return type(self)(self.frame, pick(self.z, other.z), tuple(map(pick, self.tensors, other.tensors)))

    def updated(self, rows: Int[Tensor, " n"], part: "Linearization") -> "Linearization":
        """With some of the data elsewhere."""

        def put(old: Tensor, new: Tensor) -> Tensor:
            return old.index_copy(0, rows, new)

        return type(self)(self.frame, put(self.z, part.z), tuple(map(put, self.tensors, part.tensors)))

    @property
    def at_once(self) -> int:
        """Vectors of each example that may be worked on together."""
        each = 4 * len(self.z) * self.model.likelihood.size * self.z.element_size()
        return max(1, MEMORY // max(1, each)) if self.batched else 1

    def each(self, function: Product, v: Tensor) -> Tensor:
        """A function of one vector of each example over all leading dimensions, as many at once as memory allows."""
        if v.ndim == 2:
            return function(v)
        flat = v.reshape(-1, *v.shape[-2:])
        if self.at_once == 1:
            out = torch.stack([function(one) for one in flat])
        else:
            out = torch.func.vmap(function, chunk_size=self.at_once)(flat)
        return out.unflatten(0, v.shape[:-2])

    def _information(self, v: Latent) -> Latent:
        """``J'F J v``."""
        push, inform, pull = self.push, self.inform, self.pull  # made outside vmap
        return self.each(lambda one: pull(inform(push(one))), v)

    @property
    def _prior(self) -> Product:
        """``v -> P v`` with the precision P of the prior at z."""
        if isinstance(self.model.prior, StandardNormal):
            return lambda v: v
        if self._precision is None:
            self._precision = self.model.prior.precision(self.z)
        matrix = self._precision
        return lambda v: torch.einsum("bij,...bj->...bi", matrix, v)


def take_rows(batch: Batch, rows: Tensor | slice) -> Batch:
    """Some of the data of a batch."""
    return batch.take(rows)
