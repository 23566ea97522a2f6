"""Categorical likelihood: the decoder gives logits, one block of them per element."""

import math

import torch
from torch import Tensor

from curvae.likelihoods.likelihood import Likelihood, masked
from curvae.linear import LinearGaussian, ppca


class Categorical(Likelihood):
    """``log p(x | eta) = sum_e log softmax(eta_e)[x_e]``; x holds categories 0 .. categories - 1.

    eta is flat, element by element: ``(*L, E * categories)``. The information of one element is
    ``diag(p) - p p' = R R'`` with ``R'v = sqrt(p) * (v - <p, v>)``.

    Raises:
        ValueError: fewer than two categories.

    Example:
        >>> import torch
        >>> likelihood = Categorical(2, categories=4)
        >>> f"{likelihood.log_prob(torch.tensor([[0, 3]]), torch.zeros(1, 8)).item():.4f}"   # 2 log(1/4)
        '-2.7726'
    """

    def __init__(self, event: int | tuple[int, ...], categories: int):
        super().__init__(event, per_element=categories)
        if categories < 2:
            raise ValueError(f"Categorical: at least two categories are needed; got {categories}.")
        self.information = "block"
        self.categories = categories

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        log_p = self._split(eta).log_softmax(-1)
        chosen = self.flat(x).long().unsqueeze(-1).expand(*log_p.shape[:-1], 1)
        each = log_p.gather(-1, chosen).squeeze(-1)
        return masked(each, None if mask is None else self.flat(mask)).sum(-1)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        p = self._split(eta).softmax(-1)
        one_hot = torch.nn.functional.one_hot(self.flat(x).long(), self.categories).to(p.dtype)
        return masked(one_hot - p, self._mask(mask)).flatten(-2)

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        log_p, v = self._split(eta).log_softmax(-1), self._split(v)
        centered = v - (log_p.exp() * v).sum(-1, keepdim=True)
        return masked((0.5 * log_p).exp() * centered, self._mask(mask)).flatten(-2)

    def bound(self, v: Tensor) -> Tensor:
        # diag(p) - p p' <= 1/2 (I - 1 1' / K) (Böhning, 1992)
        v = self._split(v)
        return (math.sqrt(0.5) * (v - v.mean(-1, keepdim=True))).flatten(-2)

    def mean(self, eta: Tensor) -> Tensor:
        """Probabilities, (*L, *event, categories)."""
        return self._split(eta).softmax(-1).unflatten(-2, self.event)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        p = self._split(eta).softmax(-1)
        drawn = torch.multinomial(p.reshape(-1, self.categories), 1, generator=generator)
        return self.unflat(drawn.reshape(p.shape[:-1]))

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Principal components of one-hot categories."""
        seen = None if mask is None else self.flat(mask).repeat_interleave(self.categories, -1)
        return (ppca(self.linear_features(x), latent, seen),)

    def linear_features(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(self.flat(x).long(), self.categories).flatten(1).double()

    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """The model on the scale of the logits, to first order around the means; not exact.

        ``dp_k = p_k (deta_k - sum_j p_j deta_j)``, which is w_k for ``deta_k = w_k / p_k``, as the w_k sum to 0.
        """
        mean = model.mean.clamp(0.01, 0.99)
        return model.weight / mean.clamp(min=0.05).unsqueeze(1), mean.log()

    def _split(self, eta: Tensor) -> Tensor:
        return eta.unflatten(-1, (-1, self.categories))

    def _mask(self, mask: Tensor | None) -> Tensor | None:
        return None if mask is None else self.flat(mask).unsqueeze(-1)
