"""The ELBO with free bits: a divergence that costs nothing as long as it is small."""

from torch import nn

from curvae.model import LatentVariableModel
from curvae.objectives.elbo import rate_of
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
        each = rate_of(model, posterior, draws).unsqueeze(-1) if each is None else each
        paid = each.mean(0).clamp_min(self.floor).sum()
        return Bound(fit - each.sum(-1), fit - paid, {"kl": each.sum(-1).detach()})
