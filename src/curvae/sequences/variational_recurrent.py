"""The variational recurrent network: a latent for each frame, and a state of what came before."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from curvae.likelihoods import Likelihood
from curvae.memory import require_memory
from curvae.sequences.frames import Frames
from curvae.sequences.model import SequenceBound, SequenceModel
from curvae.sequences.states import LayeredNormal
from curvae.typing import PerDraw


class RecurrentCell(nn.Module):
    """``h_t = GRU(x_t, z_t; h_t-1)``, of rows.

    Example:
        >>> RecurrentCell(3, 2, 5)(torch.zeros(4, 3), torch.zeros(4, 2), torch.zeros(4, 5)).shape
        torch.Size([4, 5])
    """

    def __init__(self, features: int, latent: int, size: int):
        super().__init__()
        require_memory(3 * size * (features + latent + size), "RecurrentCell")
        self.cell = nn.GRUCell(features + latent, size)

    def forward(self, features: Tensor, z: Tensor, h: Tensor) -> Tensor:
        return self.cell(torch.cat([features, z], -1), h)


class VariationalRecurrent(SequenceModel):
    r"""``prod_t p(x_t | z_t, h_t-1) p(z_t | h_t-1)``, ``h_t = f(x_t, z_t, h_t-1)``, and ``q(z_t | x_t, h_t-1)``.

    ``log w = sum_t log p(x_t | z_t, h_t-1) + log p(z_t | h_t-1) - log q(z_t | x_t, h_t-1)`` along a draw of all z is a
    proper weight: its mean bounds ``log p(x_1..T)``. Frames beyond the end of a sequence add nothing. Within it, what
    is missing of a frame is seen as 0 by q and f, and left out of p: the density is then that of what was observed as
    such a network sees it, not the integral of another one over what is missing.

    Args:
        features: what frames are seen as, from (N, *frame) to (N, features).
        cell: f, of rows.
        prior: given h.
        posterior: given the features and h.
        decoder: from (z, h) to eta of a frame.
        likelihood: of one frame.
        size: of h; h_0 is learned.
    """

    def __init__(
        self,
        features: nn.Module,
        cell: nn.Module,
        prior: LayeredNormal,
        posterior: LayeredNormal,
        decoder: nn.Module,
        likelihood: Likelihood,
        size: int,
    ):
        super().__init__()
        self.features, self.cell, self.prior, self.posterior = features, cell, prior, posterior
        self.decoder, self.likelihood = decoder, likelihood
        self.first = nn.Parameter(torch.zeros(size))

    def terms(self, frames: Frames, n: int, generator: Generator | None = None) -> Float[Tensor, "n B T"]:
        """The terms of ``log w``; 0 beyond the end of a sequence."""
        h, found = self._start(n, len(frames.x)), []
        for t, seen in enumerate(self._seen(frames, n).unbind(2)):
            z, log_q = self.posterior.draw(torch.cat([seen, h], -1), generator)
            mask = None if frames.mask is None else frames.mask[:, t]
            log_seen = self.likelihood.log_prob(frames.x[:, t], self._eta(z, h), mask)
            found.append(log_seen + self.prior.log_prob(z, h) - log_q)
            h = self._moved(seen, z, h)
        terms = torch.stack(found, -1)
        return torch.where(frames.there, terms, torch.zeros_like(terms))

    def _start(self, *shape: int) -> Float[Tensor, "*B H"]:
        return self.first.expand(*shape, -1)

    def _seen(self, frames: Frames, n: int) -> Float[Tensor, "n B T Q"]:
        return self.features(frames.x.flatten(0, 1)).unflatten(0, frames.x.shape[:2]).expand(n, -1, -1, -1)

    def _eta(self, z: Tensor, h: Tensor) -> Tensor:
        return self.decode(torch.cat([z, h], -1))

    def _moved(self, seen: Tensor, z: Tensor, h: Tensor) -> Tensor:
        return self.cell(*(each.flatten(0, -2) for each in (seen, z, h))).unflatten(0, h.shape[:-1])

    def trained_bound(self, frames: Frames, samples: int) -> SequenceBound:
        bound = self.terms(frames, samples).mean(0).sum(-1)
        return SequenceBound(bound, bound)

    def log_weights(self, frames: Frames, n: int, generator: Generator | None = None) -> PerDraw:
        return self.terms(frames, n, generator).sum(-1)

    def _passed(
        self, frames: Frames, n: int, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "n B D"], Float[Tensor, "n B H"]]:
        """The z of the last frame of each sequence, and h after it, along n draws."""
        h = self._start(n, len(frames.x))
        z = h.new_zeros(*h.shape[:-1], sum(self.prior.sizes))
        for t, seen in enumerate(self._seen(frames, n).unbind(2)):
            drawn, _ = self.posterior.draw(torch.cat([seen, h], -1), generator)
            there = frames.there[:, t].unsqueeze(-1)
            z, h = torch.where(there, drawn, z), torch.where(there, self._moved(seen, drawn, h), h)
        return z, h

    def states(self, frames: Frames, n: int, generator: Generator | None = None) -> Float[Tensor, "n B D"]:
        """The z of the last frame, without h."""
        return self._passed(frames, n, generator)[0]

    def filtered(self, frames: Frames) -> Float[Tensor, "B T P"]:
        h, found = self._start(1, len(frames.x)), []
        for seen in self._seen(frames, 1).unbind(2):
            z = self.posterior.center(torch.cat([seen, h], -1))
            found.append(self._eta(z, h))
            h = self._moved(seen, z, h)
        return torch.stack(found, 2).squeeze(0)

    def rolled(
        self, frames: Frames, steps: int, n: int = 1, generator: Generator | None = None
    ) -> Float[Tensor, "n B K P"]:
        """Frame by frame: each is drawn, and seen by the next."""
        return self._rolled(self._passed(frames, n, generator)[1], steps, generator)[0]

    def _rolled(
        self, h: Float[Tensor, "n B H"], steps: int, generator: Generator | None
    ) -> tuple[Float[Tensor, "n B K P"], Float[Tensor, "n B K *frame"]]:
        found, drawn = [], []
        for _ in range(steps):
            z, _ = self.prior.draw(h, generator)
            found.append(self._eta(z, h))
            drawn.append(self.likelihood.sample(found[-1], generator).to(h))
            seen = self.features(drawn[-1].flatten(0, 1)).unflatten(0, h.shape[:2])
            h = self._moved(seen, z, h)
        return torch.stack(found, 2), torch.stack(drawn, 2)

    def ahead(self, frames: Frames, gap: int, n: int, generator: Generator | None = None) -> Float[Tensor, "n B P"]:
        return self.rolled(frames, gap, n, generator)[:, :, -1]

    def sample(self, n: int, steps: int, generator: Generator | None = None) -> Float[Tensor, "n T *frame"]:
        return self._rolled(self._start(1, n), steps, generator)[1].squeeze(0)
