"""Clusters of latents: which component of a learned mixture each example is of."""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.mixture import Mixture
from curvae.distributions.posterior import Posterior
from curvae.priors.mixture import MixturePrior
from curvae.priors.prior import Prior
from curvae.priors.product import ProductPrior

DRAWS = 64


def mixtures_of(prior: Prior) -> dict[int, MixturePrior]:
    """The learned mixtures of a prior of more than one component, by the number of their block of z.

    Example:
        >>> from curvae.priors import StandardNormal
        >>> prior = ProductPrior([StandardNormal(2), MixturePrior(3, components=4)])
        >>> [*mixtures_of(prior)], [*mixtures_of(StandardNormal(2))]
        ([1], [])
    """
    factors = prior.factors if isinstance(prior, ProductPrior) else [prior]
    found = {k: factor for k, factor in enumerate(factors) if isinstance(factor, MixturePrior)}
    return {k: factor for k, factor in found.items() if len(factor.logits) > 1}


def assignments(prior: Prior, posterior: Posterior, generator: torch.Generator | None = None) -> Float[Tensor, "B K C"]:
    """``q(y | x)`` of each of K mixtures of a prior: probabilities of their components, 0 behind the last of one.

    Of a posterior with labels (:class:`curvae.distributions.Mixture`) they are its own weights, else the mean of
    ``p(y | z)`` over 64 draws of z.

    Raises:
        ValueError: a prior without mixtures of more than one component.

    Example:
        >>> from curvae.posteriors import DiagonalGaussian
        >>> q = DiagonalGaussian(torch.zeros(5, 2), torch.zeros(5, 2))
        >>> assignments(MixturePrior(2, components=4), q).shape
        torch.Size([5, 1, 4])
    """
    found = mixtures_of(prior)
    if not found:
        raise ValueError(
            f"assignments: expected a prior that is a mixture, or has one in a block; got {type(prior).__name__}. "
            "Fit ladder-clustering, or any system with --prior mixture."
        )
    if isinstance(posterior, Mixture) and posterior.labeled and len(found) == 1:
        return posterior.logits.softmax(-1).unsqueeze(1)
    draws = posterior.draw(DRAWS, generator)
    ends = [0, *accumulate(prior.blocks)]
    parts = {k: draws.z[..., ends[k] : ends[k + 1]] for k in found}
    each = [torch.einsum("sb,sbc->bc", draws.log_c.exp(), found[k].responsibilities(parts[k])) for k in found]
    most = max(one.shape[-1] for one in each)
    return torch.stack([torch.nn.functional.pad(one, (0, most - one.shape[-1])) for one in each], 1)
