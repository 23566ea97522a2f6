"""Mutual posterior divergence: posteriors of different data are told apart, and evenly so."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from curvae.distributions import normal_kl
from curvae.model import LatentVariableModel
from curvae.objectives.elbo import reconstruction_and_kl
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import DiagonalGaussian, Posterior
from curvae.typing import Batch


@dataclass(frozen=True)
class MutualDivergence:
    """``fit - max(mean KL(q || p), free) - diversity sum_d softplus(-MPD_d) - smoothness Std(sum_d KL_ijd)``.

    ``KL_ijd = KL(q_d(z | x_i) || q_d(z | x_j))`` of each latent and each ordered pair of different data of the batch,
    ``MPD_d`` their mean; Std is that over pairs. The first term keeps latents from falling silent under a strong
    decoder, the second keeps the posteriors evenly apart. These weights train, they are no part of a bound: the ELBO
    is reported. A batch of one example has no pairs, and gets neither term.

    Batch coupling: the terms are those of the batch at hand, of each process where there are several.

    Args:
        diversity: weight eta.
        smoothness: weight gamma.
        free: nats of mean KL that cost nothing.

    Raises:
        ValueError: a negative weight; a posterior that is no ``DiagonalGaussian``.

    Reference: Ma, Zhou and Hovy, ICLR 2019, arXiv:1901.01498 (MAE, no masked autoencoder).

    Example:
        >>> MutualDivergence(diversity=1.0, smoothness=0.01).kind
        'none'
    """

    diversity: float = 1.0
    smoothness: float = 0.01
    free: float = 0.0
    kind: ClassVar[Kind] = "none"

    def __post_init__(self) -> None:
        for name in ("diversity", "smoothness", "free"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"MutualDivergence: {name} must be 0 or more; got {getattr(self, name)}.")

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        if not isinstance(posterior, DiagonalGaussian):
            raise ValueError(
                f"MutualDivergence: expects a DiagonalGaussian posterior; got {type(posterior).__name__}. Use elbo."
            )
        fit, rate = reconstruction_and_kl(model, posterior, batch, samples)
        pairs = pairwise_kl(posterior.loc, posterior.log_scale)
        mutual = pairs.mean(0) if len(pairs) else pairs.new_full(pairs.shape[1:], torch.inf)
        apart = self.diversity * softplus(-mutual).sum() + self.smoothness * _spread(pairs.sum(-1))
        surrogate = fit - rate.mean().clamp(min=self.free) - apart
        info = {"kl": rate.detach(), "mutual_divergence": mutual.detach()}
        return Bound(fit - rate, surrogate, info)


def pairwise_kl(loc: Float[Tensor, "B D"], log_scale: Float[Tensor, "B D"]) -> Float[Tensor, "pairs D"]:
    """``KL(q_i || q_j)`` of each latent, nats, for all ordered pairs i != j: (B (B - 1), D).

    Example:
        >>> loc = torch.tensor([[0.0], [2.0]])
        >>> pairwise_kl(loc, torch.zeros(2, 1)).flatten().tolist()
        [2.0, 2.0]
    """
    i, j = (~torch.eye(len(loc), dtype=torch.bool, device=loc.device)).nonzero(as_tuple=True)
    offset = (loc[i] - loc[j]) * (-log_scale[j]).exp()
    return normal_kl(offset, log_scale[i] - log_scale[j])


def _spread(values: Float[Tensor, " pairs"]) -> Tensor:
    """Standard deviation, 0 with a gradient of 0 where there is none."""
    if len(values) < 2:
        return values.new_zeros(())
    variance = values.var()
    return torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)
