"""What posteriors on extended spaces have in common: draws that start elsewhere and are moved by the model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from curvae.distributions.drawn import DrawnPosterior
from curvae.distributions.posterior import AnyPosterior, Posterior, free_of, part_with, tensors_of
from curvae.model import LatentVariableModel
from curvae.typing import Batch


class SimulatedPosterior(DrawnPosterior):
    """Draws of another posterior, moved along ``log p(x, z)``; the density of where they arrive is not known.

    Only that of the whole trajectory is: ``log_q := log p(x, z) - log weight``.
    """

    start: Posterior
    model: LatentVariableModel
    batch: Batch
    names: tuple[str, ...]
    """Of its fields that are tensors: what is set for each example beside the start."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Those of the start as ``start.*``, its own, and the example, which defines where draws move."""
        own = {name: getattr(self, name) for name in self.names}
        seen = {} if self.batch.mask is None else {"mask": self.batch.mask}
        return {**tensors_of("start", self.start), **own, "x": self.batch.x, **seen}

    @property
    def free(self) -> tuple[str, ...]:
        """All but the example."""
        return (*free_of("start", self.start), *self.names)

    def with_tensors(self: AnyPosterior, tensors: Mapping[str, Tensor]) -> AnyPosterior:
        q = cast(SimulatedPosterior, self)
        changed: dict[str, Any] = {name: tensors[name] for name in q.names}
        changed["start"] = part_with("start", q.start, tensors)
        return replace(self, batch=Batch.of(tensors["x"], tensors.get("mask")), **changed)  # pyright: ignore[reportArgumentType]

    def log_joint(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        """``log p(x, z)``, nats."""
        return self.model.log_joint(self.batch.x, z, self.batch.mask)

    def count(self, n: int) -> int:
        return self.start.count(n)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        return self.start.center
