"""Bernoulli likelihood: the decoder gives logits."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from curvae.likelihoods.likelihood import Likelihood, masked
from curvae.linear import LinearGaussian, ppca


class Bernoulli(Likelihood):
    """``log p(x | eta) = sum x log s(eta) + (1 - x) log s(-eta)``, s the logistic function; information ``s(1 - s)``.

    Example:
        >>> import torch
        >>> likelihood = Bernoulli(3)
        >>> f"{likelihood.log_prob(torch.ones(1, 3), torch.zeros(1, 3)).item():.4f}"   # 3 log(1/2)
        '-2.0794'
    """

    def __init__(self, event: int | tuple[int, ...]):
        super().__init__(event)
        self.information = "diagonal"

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        each = logsigmoid(eta) - (1 - self.flat(x)) * eta
        return masked(each, None if mask is None else self.flat(mask)).sum(-1)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked(self.flat(x) - eta.sigmoid(), None if mask is None else self.flat(mask))

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        # sqrt(s(a) s(-a)) through the log: no 0 whose square root has an infinite gradient
        root = (0.5 * (logsigmoid(eta) + logsigmoid(-eta))).exp()
        return masked(v * root, None if mask is None else self.flat(mask))

    def bound(self, v: Tensor) -> Tensor:
        return 0.5 * v

    def mean(self, eta: Tensor) -> Tensor:
        return self.unflat(eta.sigmoid())

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(self.mean(eta), generator=generator)

    def linear_features(self, x: Tensor) -> Tensor:
        return self.flat(x).double()

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components of the 0s and 1s."""
        return (ppca(self.flat(x), latent, None if mask is None else self.flat(mask)),)

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """The model on the scale of the logits, to first order around the means; not exact."""
        mean = model.mean.clamp(0.01, 0.99)
        return model.weight / (mean * (1 - mean)).clamp(min=0.05).unsqueeze(1), mean.logit()
