"""The density of data beside what was made of them, which is none of the data alone."""

from typing import ClassVar

import torch

from curvae.model import LatentVariableModel
from curvae.objectives.importance import iwae
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import DensityPosterior, Posterior
from curvae.typing import Batch


class AugmentedDensity:
    """``log p(x, z) - log q(z | x)`` at the center of q, where q has a width that is not learned: no bound.

    If z is an invertible map of w for each x, and w a fixed function of x, this is ``log p(x, w)`` but for a constant.
    As w is known from x, a model may put ever more of its mass there: it rises without saying anything of p(x). What is
    reported is a lower bound of log p(x), from draws of q: ``log sum_k w_k - log K``.

    Example:
        >>> AugmentedDensity().kind
        'none'
    """

    kind: ClassVar[Kind] = "none"

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        if not isinstance(posterior, DensityPosterior):
            raise ValueError(
                f"AugmentedDensity: expects a posterior with a density; {type(posterior).__name__} has none."
            )
        with torch.no_grad():
            value = iwae(model, posterior, batch, samples).value
        center = posterior.center.unsqueeze(0)
        weight = model.log_joint(batch.x, center, batch.mask) - posterior.log_prob(center)
        return Bound(value, weight.squeeze(0))
