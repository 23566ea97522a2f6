"""The ELBO with free bits: a divergence that costs nothing as long as it is small, or little until it is large."""

import torch
from torch import Tensor, nn

from curvae.model import LatentVariableModel
from curvae.objectives.elbo import kl_or_estimate, reconstruction_and_kl
from curvae.objectives.objective import Bound, Kind, with_credit
from curvae.posteriors import Posterior, kl
from curvae.typing import Batch


class FreeBits(nn.Module):
    """``E_q log p(x | z) - sum_j max(floor, mean over the batch of KL_j)`` is maximized; the ELBO is reported.

    j runs over the blocks of the prior where the divergence has a closed form for each of them; for a flow all of z is
    one group. A group whose mean lies below the floor is not pushed further to the prior, so that it cannot collapse.

    Reference: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, *Improved Variational Inference with Inverse
    Autoregressive Flow*, NIPS 2016.

    Args:
        floor: nats of each group; 0 is the ELBO.

    Raises:
        ValueError: a negative floor.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> bound = FreeBits(1.0)(model, q, Batch(torch.zeros(4, 3), torch.arange(4)), 5)
        >>> torch.allclose(bound.value - bound.surrogate, torch.ones(4))
        True
    """

    kind: Kind = "lower"

    def __init__(self, floor: float):
        super().__init__()
        if floor < 0:
            raise ValueError(f"FreeBits: floor must be 0 nats or more; got {floor}.")
        self.floor = floor

    def forward(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        draws = posterior.draw(samples)
        fit = (draws.log_c.exp() * with_credit(model.log_likelihood(batch.x, draws.z, batch.mask), draws)).sum(0)
        each = kl(posterior, model.prior)
        each = kl_or_estimate(model, posterior, draws).unsqueeze(-1) if each is None else each
        paid = each.mean(0).clamp_min(self.floor).sum()
        return Bound(fit - each.sum(-1), fit - paid, {"kl": each.sum(-1).detach()})


class SoftFreeBits(nn.Module):
    """``E_q log p(x | z) - weight KL`` is maximized, by a weight that learns how much divergence to let through.

    After each step, with K the mean KL of the batch, the weight is multiplied by ``1 + rate`` where
    ``K > (1 + tolerance) target``, divided by it where ``K < target``, and kept within [least, 1]. So a divergence
    below the target is hardly paid for, and the objective has no kink there; above it this ends as the ELBO, which is
    what is reported. ``weight`` is a buffer, returned as state and written by the trainer.

    Reference: after Chen et al., *Variational Lossy Autoencoder*, ICLR 2017, who adapt a weight of the divergence.

    Differences: rate, tolerance and the least weight are ours.

    Args:
        target: nats of divergence of an example.
        rate: of the weight, a step.
        tolerance: share of the target above it that leaves the weight as it is.
        least: weight.

    Raises:
        ValueError: a target or tolerance below 0, a rate or a least weight that is not positive, or one above 1.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> bound = SoftFreeBits(1.0, rate=0.25)(model, q, Batch(torch.zeros(4, 3), torch.arange(4)), 5)
        >>> bound.state["weight"]   # 1 / 1.25, as the divergence is 0
        tensor(0.8000)
    """

    kind: Kind = "lower"
    weight: Tensor

    def __init__(self, target: float, rate: float = 0.01, tolerance: float = 0.05, least: float = 1e-3):
        super().__init__()
        if not (target >= 0 and tolerance >= 0 and rate > 0 and 0 < least <= 1):
            raise ValueError(
                "SoftFreeBits: expects target and tolerance of 0 or more, a positive rate and least in (0, 1]; got "
                f"{target}, {tolerance}, {rate} and {least}."
            )
        self.target = target
        self.rate = rate
        self.tolerance = tolerance
        self.least = least
        self.register_buffer("weight", torch.ones(()))

    def forward(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        fit, rate = reconstruction_and_kl(model, posterior, batch, samples)
        info = {"kl": rate.detach()}
        return Bound(fit - rate, fit - self.weight * rate, info, {"weight": self._next(rate.detach().mean())})

    def _next(self, mean: Tensor) -> Tensor:
        """The weight after a batch of this mean divergence."""
        grown, shrunk = self.weight * (1 + self.rate), self.weight / (1 + self.rate)
        kept = torch.where(mean < self.target, shrunk, self.weight)
        return torch.where(mean > (1 + self.tolerance) * self.target, grown, kept).clamp(self.least, 1)
