"""The importance-weighted bound of what was observed and of what was missing."""

from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from curvae.likelihoods import Missingness
from curvae.model import BatchModel, LatentVariableModel, require_whole
from curvae.objectives.importance import ImportanceBound, Iwae, iwae
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import Posterior
from curvae.typing import Batch


class NotMiwae(nn.Module):
    r"""``log 1/K sum_k p(s | x_o, x_m^k) p(x_o | z_k) p(z_k) / q(z_k | x_o)``, a bound of log p(x_o, s), is maximized.

    s says what was observed, x_o; ``x_m^k ~ p(x_m | z_k)`` is what was not, one draw for each z_k with its path
    gradient. What is reported is the bound of log p(x_o) alone, ``log 1/K sum_k p(x_o | z_k) p(z_k) / q(z_k | x_o)``,
    from other draws, which can be compared with that of systems without a law of what is missing; it need not rise.
    ``info["joint"]`` has the bound that is maximized.

    Args:
        missingness: p(s | x), with parameters of its own that are learned.
        bound: how weights combine, and how the posterior learns.

    Raises:
        ValueError: in use, where something is missing: a likelihood whose draws have no path gradient, or a decoder
            that also sees x.

    Reference: Ipsen, Mattei and Frellsen, *not-MIWAE: Deep Generative Modelling with Missing not at Random Data*, ICLR
    2021, equation 6.

    Example:
        >>> from curvae.likelihoods import Gaussian, SelfMasking
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q, x = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2)), torch.zeros(4, 3)
        >>> bound = NotMiwae(SelfMasking(3))(model, q, Batch.of(x, x > 0), 5)
        >>> bound.value.shape, torch.equal(bound.surrogate, bound.info["joint"])
        (torch.Size([4]), True)
    """

    kind: ClassVar[Kind] = "lower"

    def __init__(self, missingness: Missingness, bound: ImportanceBound = iwae):
        super().__init__()
        self.missingness = missingness
        self.bound = bound

    def forward(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        require_whole(model, batch.mask, "NotMiwae")
        if batch.mask is not None and not model.likelihood.reparameterized:
            raise ValueError(
                f"NotMiwae: expects a likelihood whose draws have a path gradient, Gaussian or LogNormal; got "
                f"{type(model.likelihood).__name__}."
            )
        joint = self.bound(BatchModel(model, partial(self._level, model, batch)), posterior, batch, samples)
        with torch.no_grad():
            value = Iwae()(model, posterior, batch, samples).value
        return Bound(value, joint.surrogate, {"joint": joint.value.detach()})

    def _level(self, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        """``log p(x_o | z) + log p(s | x_o, x_m)``."""
        eta = model.decode(z, batch.x)
        level = model.likelihood.log_prob(batch.x, eta, batch.mask)
        if batch.mask is None:
            return level + self.missingness.log_prob(torch.ones_like(batch.x).flatten(1).bool(), batch.x.flatten(1))
        whole = completed(batch.x, batch.mask, model.likelihood.sample(eta))
        return level + self.missingness.log_prob(batch.mask.flatten(1), whole.flatten(2))


def completed(
    x: Float[Tensor, "B *event"], mask: Bool[Tensor, "B *event"], drawn: Float[Tensor, "S B *event"]
) -> Float[Tensor, "S B *event"]:
    """What was observed, and draws elsewhere.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> completed(torch.ones(1, 2), mask, torch.zeros(3, 1, 2))[2].tolist()
        [[1.0, 0.0]]
    """
    return torch.where(mask, x.to(drawn.dtype), drawn)
