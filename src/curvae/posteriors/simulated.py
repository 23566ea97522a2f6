"""What posteriors on extended spaces have in common: draws that start elsewhere and are moved by the model."""

from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.distributions.moments import DrawnPosterior
from curvae.distributions.posterior import DerivedPosterior
from curvae.model import LatentVariableModel


class SimulatedPosterior(DerivedPosterior, DrawnPosterior):
    """Draws of another posterior, moved along ``log p(x, z)``; the density of where they arrive is not known.

    Only that of the whole trajectory is: ``log_q := log p(x, z) - log weight``.
    """

    given = ("x", "mask")
    model: LatentVariableModel
    x: Shaped[Tensor, "B *event"]
    mask: Shaped[Tensor, "B *event"] | None

    def log_joint(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        """``log p(x, z)``, nats."""
        return self.model.log_joint(self.x, z, self.mask)

    @property
    def center(self) -> Float[Tensor, "B D"]:
        return self.start.center
