"""Temporal-difference VAE: a belief, states, and jumps between them."""

from math import log

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot

from curvae.likelihoods import Likelihood
from curvae.memory import require_memory
from curvae.sequences.frames import Frames
from curvae.sequences.model import SequenceBound, SequenceModel
from curvae.sequences.states import LayeredNormal
from curvae.typing import PerDraw

TOGETHER = 16
"""Draws of a step, at most, whose mean is taken in a weight."""


class RecurrentBelief(nn.Module):
    """``b_0, b_1, ..., b_T``: b_t is a function of x_1..t alone; b_0, before any frame, is learned.

    Args:
        front: from frames (N, *frame) to (N, features).
        features: how many.
        size: of a belief.

    Example:
        >>> RecurrentBelief(nn.Flatten(), 6, 4)(torch.zeros(5, 7, 2, 3)).shape
        torch.Size([5, 8, 4])
    """

    def __init__(self, front: nn.Module, features: int, size: int):
        super().__init__()
        require_memory(4 * size * (features + size), "RecurrentBelief")
        self.front = front
        self.cell = nn.LSTM(features, size, batch_first=True)
        self.first = nn.Parameter(torch.zeros(size))

    def forward(self, x: Float[Tensor, "B T *frame"]) -> Float[Tensor, "B U H"]:
        if x.shape[1] == 0:
            return self.first.expand(len(x), 1, -1)
        seen = self.front(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return torch.cat([self.first.expand(len(x), 1, -1), self.cell(seen)[0]], 1)


class TemporalDifference(SequenceModel):
    r"""Beliefs ``p_B(z | b_t)``, jumps ``p_T(z_2 | z_1, t2 - t1)``, smoothing ``q_S(z_1 | z_2, b_t1, b_t2, t2 - t1)``.

    Of a pair of steps t1 < t2, with ``z_2 ~ p_B(. | b_t2)`` and ``z_1 ~ q_S``, in nats,

    ``L = log p_D(x_t2 | z_2) + log p_B(z_1 | b_t1) + log p_T(z_2 | z_1) - log p_B(z_2 | b_t2) - log q_S(z_1 | z_2)``.

    For ``t2 = t1 + 1`` its exponential is, in expectation, the density

    ``p(x_t2 | x_<=t1) = int p_B(z_1 | b_t1) p_T(z_2 | z_1) p_D(x_t2 | z_2) dz_1 dz_2``,

    whose product over all steps, from the belief b_0 before the first frame on, is a normalized ``p(x_1..T)``: that is
    what weights and samples are of. The sum of these L bounds its logarithm. What is *trained* is the sum over t2 of L
    with a gap drawn from 1 to ``jump`` for each, which is no bound: b_t2 has seen the frames between, the jump has not.

    Args:
        belief: from frames (B, T, *frame) to b, (B, T + 1, H).
        filtering: p_B, given b.
        transition: p_T, given z_1 and the gap, one-hot.
        smoothing: q_S, given z_2, b_t1, b_t2 and the gap, one-hot.
        decoder: from z to eta of a frame.
        likelihood: p_D, of one frame.
        jump: largest gap.
    """

    def __init__(
        self,
        belief: nn.Module,
        filtering: LayeredNormal,
        transition: LayeredNormal,
        smoothing: LayeredNormal,
        decoder: nn.Module,
        likelihood: Likelihood,
        jump: int,
    ):
        super().__init__()
        self.belief, self.filtering, self.transition, self.smoothing = belief, filtering, transition, smoothing
        self.decoder, self.likelihood, self.jump = decoder, likelihood, jump

    def bracket(
        self,
        frames: Frames,
        belief: Float[Tensor, "B U H"],
        gap: Int[Tensor, "B T"],
        n: int,
        generator: Generator | None = None,
    ) -> Float[Tensor, "n B T"]:
        """L of every t2 = 1, ..., T and t1 = t2 - gap, for n draws; 0 beyond the end of a sequence."""
        now = belief[:, 1:]
        before = (torch.arange(1, now.shape[1] + 1, device=gap.device) - gap).unsqueeze(-1)
        then = belief.gather(1, before.expand(-1, -1, belief.shape[-1]))
        now, then, step = (each.expand(n, *each.shape) for each in (now, then, self._steps(gap, belief)))
        z2, log_belief = self.filtering.draw(now, generator)
        z1, log_smoothing = self.smoothing.draw(torch.cat([z2, then, now, step], -1), generator)
        log_jump = self.transition.log_prob(z2, torch.cat([z1, step], -1))
        log_seen = self.likelihood.log_prob(frames.x, self.decode(z2), frames.mask)
        found = log_seen + self.filtering.log_prob(z1, then) + log_jump - log_belief - log_smoothing
        return torch.where(frames.there, found, torch.zeros_like(found))

    def _steps(self, gap: Int[Tensor, "*B"], like: Tensor) -> Float[Tensor, "*B J"]:
        """One-hot."""
        return one_hot(gap - 1, self.jump).to(like)

    def _single(self, frames: Frames) -> Int[Tensor, "B T"]:
        return torch.ones(frames.x.shape[:2], dtype=torch.long, device=frames.x.device)

    def trained_bound(self, frames: Frames, samples: int) -> SequenceBound:
        belief, most = self.belief(frames.x), torch.arange(1, frames.x.shape[1] + 1, device=frames.x.device)
        most = most.clamp(max=self.jump).expand(frames.x.shape[:2])
        gap = 1 + (torch.rand(most.shape, device=most.device) * most).long().clamp(max=most - 1)
        surrogate = self.bracket(frames, belief, gap, samples).mean(0).sum(1)
        with torch.no_grad():
            value = self.bracket(frames, belief, self._single(frames), samples).mean(0).sum(1)
        return SequenceBound(value, surrogate)

    def log_weights(self, frames: Frames, n: int, generator: Generator | None = None) -> PerDraw:
        """Of n draws of a step some at a time make a weight: the product over steps of their means.

        Steps are independent given the sequence, so that a mean of products would waste what this does not.
        """
        each = self.bracket(frames, self.belief(frames.x), self._single(frames), n, generator)
        return torch.stack([some.logsumexp(0) - log(len(some)) for some in each.split(TOGETHER)]).sum(-1)

    def _last(self, frames: Frames, n: int) -> Float[Tensor, "n B H"]:
        """The belief at the last frame."""
        belief = self.belief(frames.x)
        last = frames.length.reshape(-1, 1, 1).expand(-1, 1, belief.shape[-1])
        return belief.gather(1, last).squeeze(1).expand(n, -1, -1)

    def states(self, frames: Frames, n: int, generator: Generator | None = None) -> Float[Tensor, "n B D"]:
        return self.filtering.draw(self._last(frames, n), generator)[0]

    def filtered(self, frames: Frames) -> Float[Tensor, "B T P"]:
        return self.decode(self.filtering.center(self.belief(frames.x)[:, 1:]))

    def moved(self, z: Float[Tensor, "n B D"], gap: int, generator: Generator | None = None) -> Float[Tensor, "n B D"]:
        """A draw of the states after one jump."""
        step = self._steps(torch.full(z.shape[:-1], gap, device=z.device), z)
        return self.transition.draw(torch.cat([z, step], -1), generator)[0]

    def rolled(
        self, frames: Frames, steps: int, n: int = 1, generator: Generator | None = None
    ) -> Float[Tensor, "n B K P"]:
        z, found = self.states(frames, n, generator), []
        for _ in range(steps):
            z = self.moved(z, 1, generator)
            found.append(z)
        return self.decode(torch.stack(found, 2))

    def ahead(self, frames: Frames, gap: int, n: int, generator: Generator | None = None) -> Float[Tensor, "n B P"]:
        """In as few jumps as there may be, of near-equal length."""
        z = self.states(frames, n, generator)
        for size in jumps(gap, self.jump):
            z = self.moved(z, size, generator)
        return self.decode(z)

    def sample(self, n: int, steps: int, generator: Generator | None = None) -> Float[Tensor, "n T *frame"]:
        """Every frame is drawn given the belief of those drawn before it."""
        x = next(self.parameters()).new_zeros(n, 0, *self.likelihood.event)
        for _ in range(steps):
            z = self.filtering.draw(self.belief(x)[:, -1].unsqueeze(0), generator)[0]
            eta = self.decode(self.moved(z, 1, generator)).squeeze(0)
            x = torch.cat([x, self.likelihood.sample(eta, generator).unsqueeze(1).to(x)], 1)
        return x


def jumps(gap: int, most: int) -> list[int]:
    """A gap as the fewest jumps of near-equal length.

    >>> jumps(15, 4), jumps(3, 4)
    ([4, 4, 4, 3], [3])
    """
    count = -(-gap // most)
    return [gap // count + (i < gap % count) for i in range(count)]
