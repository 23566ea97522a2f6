"""What posteriors on extended spaces have in common: draws that start elsewhere and are moved by the model."""

from abc import abstractmethod
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from curvae.model import LatentVariableModel
from curvae.posteriors.drawn import DrawnPosterior
from curvae.posteriors.posterior import Posterior
from curvae.typing import Batch


class SimulatedPosterior(DrawnPosterior):
    """Draws of another posterior, moved along ``log p(x, z)``; the density of where they arrive is not known.

    Only that of the whole trajectory is: ``log_q := log p(x, z) - log weight``.
    """

    start: Posterior
    model: LatentVariableModel
    batch: Batch

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Float[Tensor, "B ..."]]:
        """Its tensors beside those of the start and the datum."""

    @abstractmethod
    def with_parts(self, start: Posterior, batch: Batch, settings: Mapping[str, Tensor]) -> "SimulatedPosterior":
        """The same with other parts."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Those of the start as ``start.*``, its own settings, and the datum, which defines where draws move."""
        start = {f"start.{name}": value for name, value in self.start.tensors.items()}
        seen = {} if self.batch.mask is None else {"mask": self.batch.mask}
        return {**start, **self.settings, "x": self.batch.x, **seen}

    @property
    def free(self) -> tuple[str, ...]:
        """All but the datum."""
        return (*(f"start.{name}" for name in self.start.free), *self.settings)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "SimulatedPosterior":
        start = self.start.with_tensors({name: tensors[f"start.{name}"] for name in self.start.tensors})
        batch = Batch.of(tensors["x"], tensors.get("mask"))
        return self.with_parts(start, batch, {name: tensors[name] for name in self.settings})

    def log_joint(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        """``log p(x, z)``, nats."""
        return self.model.log_joint(self.batch.x, z, self.batch.mask)

    def count(self, n: int) -> int:
        return self.start.count(n)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        return self.start.center
