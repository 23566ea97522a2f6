"""The log joint at one point, for methods whose point is itself a draw of the posterior."""

from typing import ClassVar

import torch

from curvae.model import LatentVariableModel
from curvae.objectives.importance import monte_carlo_elbo
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import Posterior
from curvae.typing import Batch


class PointJoint:
    """``log p(x, z)`` at the center of the posterior; what is reported is the ELBO.

    Where the center is a draw of ``p(z | x)``, as under Langevin dynamics, its expected gradient is that of log p(x).
    Where it is a best guess, this is maximum a posteriori estimation of z.

    Example:
        >>> PointJoint().kind
        'none'
    """

    kind: ClassVar[Kind] = "none"

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        with torch.no_grad():
            value = monte_carlo_elbo(model, posterior, batch, samples).value
        return Bound(value, model.log_joint(batch.x, posterior.center.unsqueeze(0), batch.mask).squeeze(0))
