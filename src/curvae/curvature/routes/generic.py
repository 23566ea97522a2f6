"""The generic route: J by batched products with its columns or its rows, for any decoder whose rows are independent."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from curvae.curvature.linearization import LocalExpansion, take_rows
from curvae.curvature.routes.checkpointing import recomputed
from curvae.curvature.routes.decoder_jacobians import jacobian
from curvae.curvature.routes.decoder_route import DecoderLinearization, Observed, score_and_precision
from curvae.curvature.routes.differentiable import decoding
from curvae.model import LatentVariableModel
from curvae.typing import Batch, Matrix

MEMORY = 2**30
"""Bytes that the Jacobians of the generic route may take at a time, unless ``Generic.within`` says otherwise."""


class Generic(DecoderLinearization):
    """J by D Jacobian-vector products at once, or by P vector-Jacobian products where P < D, for any decoder.

    Chunks of the batch, and of the directions where one example is too much, keep it within ``memory`` bytes, beside
    the results; where there is more than one, the backward pass computes a chunk again instead of keeping it. With a
    gradient a chunk is one example at least. What a decoder needs is measured by a pass of one example and one of two.
    Not counted is what an operation takes only while it runs, which depends on the device and its library: a copy of
    its weights, or oneDNN's and cuDNN's copies of what they convolve, with the channels padded.

    Raises:
        ValueError: one example's J and its product with the root of the information alone need more.
    """

    memory: int = MEMORY

    @classmethod
    def within(cls, memory: int) -> type["Generic"]:
        """This route with another budget in bytes: ``Laplace(start, route=Generic.within(2**30))``.

        Raises:
            ValueError: not positive.
        """
        if memory < 1:
            raise ValueError(f"Generic.within: expects a positive number of bytes; got {memory}.")
        return type("Generic", (Generic,), {"memory": memory})

    @classmethod
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Generic":
        needs = Needs.of(model, batch, z)
        if needs.least > cls.memory:
            raise ValueError(
                f"Generic route: the Jacobian of one example ({model.likelihood.size} x {z.shape[-1]}) needs "
                f"{needs.least:,} bytes; the budget is {cls.memory:,}. Take "
                f"route=Generic.within({needs.least}), or MatrixFreeLaplace, which forms no Jacobian."
            )
        return cls(Observed(model, batch, needs=needs), z)

    @property
    def needs(self) -> "Needs":
        """What one example takes."""
        return self.frame.needs

    def _evaluated(self) -> tuple[Tensor, ...]:
        eta = decoding(self.model, self.batch.x, self.z)(self.z)
        level = self.model.likelihood.log_prob(self.batch.x, eta, self.batch.mask)
        return (level + self.model.prior.log_prob(self.z),)

    def _likelihood(self) -> tuple[Float[Tensor, "B D"], Matrix]:
        part = self._parts()
        if self._tensors is None:
            self._tensors = (part.log_joint + self.model.prior.log_prob(self.z),)
        return part.grad, part.precision

    def _parts(self) -> LocalExpansion:
        """``log p(x | z)``, its gradient and its information, of as many data at once as memory allows."""
        items, directions = self.needs.chunks(self.memory, torch.is_grad_enabled() or not self.batched)
        if items >= len(self.z):
            return self._chunk(self.z, slice(None), directions)
        parts = []
        for begin in range(0, len(self.z), items):
            rows = slice(begin, begin + items)

            def run(point: Tensor, rows: slice = rows) -> LocalExpansion:
                return self._chunk(point, rows, directions)

            parts.append(recomputed(self.model, run, self.z[rows]))
        return LocalExpansion(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _chunk(self, z: Float[Tensor, "B D"], rows: slice, directions: int) -> LocalExpansion:
        """Some of the data, so many columns or rows of J at once."""
        part = take_rows(self.batch, rows)
        model = self.model.given(part.context)
        eta, jacobians = jacobian(decoding(model, part.x, z), z, self.needs.reverse, directions)
        level = model.likelihood.log_prob(part.x, eta, part.mask)
        return LocalExpansion(level, *score_and_precision(model, part, eta, jacobians))


class Needs(NamedTuple):
    """What one example takes: the numbers of the decoder's steps, of which a Jacobian has one for each direction."""

    outputs: int
    latent: int
    widest: int
    """Numbers in the largest tensor on the decoder's way."""
    total: int
    """Numbers in all of them, which a gradient needs again."""
    item: int
    """Bytes of a number."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Needs":
        """Seen from the decoder at work on one example and on the same twice: what grows is the example's."""
        sizes = []
        for count in (1, 2):
            rows = z[:1].detach().repeat(count, 1)
            decode = decoding(model.of_first(count), batch.x[:1].repeat_interleave(count, 0), rows)
            with model.evaluating(), _Sizes() as seen:
                decode(rows)
            sizes.append(seen.sizes)
        grown = [two - one for one, two in zip(*sizes, strict=False)] or [0]
        return cls(model.likelihood.size, z.shape[-1], max(grown), sum(grown), z.element_size())

    @property
    def reverse(self) -> bool:
        """Whether J has fewer rows than columns."""
        return self.outputs < self.latent

    @property
    def fixed(self) -> int:
        """Bytes of J, of its product with the root of the information, and of copies of the two."""
        return 4 * self.item * self.outputs * self.latent

    @property
    def directions(self) -> int:
        """Columns of J, or rows where there are fewer."""
        return min(self.outputs, self.latent)

    @property
    def least(self) -> int:
        """Bytes of one example without a gradient, one direction after the other."""
        return self.fixed + self.along(gradient=False)

    def along(self, gradient: bool) -> int:
        """Bytes of one direction: what goes into a step, what comes out and a copy; a gradient keeps all steps."""
        return self.item * (2 * self.total if gradient else 3 * self.widest)

    def each(self, gradient: bool) -> int:
        """Bytes of one example, all directions at once."""
        return self.fixed + self.directions * self.along(gradient)

    def chunks(self, memory: int, gradient: bool) -> tuple[int, int]:
        """How many data, and how many directions of each, at once."""
        items = memory // self.each(gradient)
        if items or gradient:
            return max(1, items), self.directions
        return 1, min(self.directions, max(1, (memory - self.fixed) // self.along(gradient)))


class _Sizes(TorchDispatchMode):
    """Sees how many numbers each operation makes; a view makes none."""

    def __init__(self):
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        old = {_place(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        made = (one for one in tree_leaves(out) if isinstance(one, Tensor))
        self.sizes.append(sum(one.numel() for one in made if _place(one) not in old))
        return out


def _place(tensor: Tensor) -> int:
    """Where its numbers are; a sparse tensor, or one inside a derivative that a decoder takes, has no such place."""
    try:
        return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
    except RuntimeError:
        return id(tensor)
