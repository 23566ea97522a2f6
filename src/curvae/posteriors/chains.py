"""Chains: the states of Markov chains that have the exact posterior as their limit."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.moments import weighted_covariance, weighted_interval, weighted_mean
from curvae.distributions.posterior import Draws, ParametricPosterior


@dataclass(frozen=True, eq=False)
class Chains(ParametricPosterior):
    """The last T states of C chains for each example.

    They tell of the posterior, in the limit exactly, and nothing of the evidence: the density of a state is not known,
    so ``log_q`` of a draw is NaN and there are no weights.

    Args:
        states: by example, chain and time.

    Example:
        >>> chains = Chains(torch.randn(4, 3, 500, 2))
        >>> chains.draw(5).z.shape, bool((chains.r_hat < 1.02).all()), bool((chains.ess > 1000).all())
        (torch.Size([5, 4, 2]), True, True)
    """

    names = ("states",)
    states: Float[Tensor, "B C T D"]

    @property
    def center(self) -> Float[Tensor, "B D"]:
        return self.mean

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        """``n`` states, each chosen at random from all."""
        every = self.states.flatten(1, 2)
        shape, device = (n, len(every), 1), every.device
        chosen = torch.randint(every.shape[1], shape, generator=generator, device=device)
        z = every.transpose(0, 1).gather(0, chosen.expand(-1, -1, every.shape[-1]))
        return Draws.iid(z, torch.full_like(z[..., 0], torch.nan))

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        return weighted_mean(self._all())

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        return weighted_covariance(self._all())

    def _interval(self, level: float) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        return weighted_interval(self._all(), level)

    @property
    def r_hat(self) -> Float[Tensor, "B D"]:
        """Rank-normalized split R-hat (Vehtari et al., 2021), by arviz-stats: above 1.01 the chains disagree."""
        return self._diagnose("rhat")

    @property
    def ess(self) -> Float[Tensor, "B D"]:
        """Effective number of independent states behind the mean (bulk), by arviz-stats."""
        return self._diagnose("ess")

    def _all(self) -> Draws:
        z = self.states.flatten(1, 2).transpose(0, 1)
        return Draws.iid(z, torch.zeros_like(z[..., 0]))

    def _diagnose(self, name: str) -> Tensor:
        from arviz_stats.base.array import array_stats  # its package takes a second to import

        states = self.states.detach().cpu().double().movedim(-1, 1).numpy()
        with np.errstate(all="ignore"):
            found = getattr(array_stats, name)(states, chain_axis=-2, draw_axis=-1)
        return torch.as_tensor(np.asarray(found), dtype=self.states.dtype, device=self.states.device)
