"""Chains of imputations that persist: what is missing of each training row, one element drawn given all others."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from curvae.argument_checks import check_counts
from curvae.linalg import LOG_2PI
from curvae.networks import ConditionalRegressions
from curvae.typing import Batch, PerDatum

QUANTILES = 65
"""Of the observed values of each element: from them chains begin, and beyond the first and the last they do not go."""
SWEEPS = 4
"""Updates for each missing element of a row that the chains do not know."""
Kernel = Callable[[Shaped[Tensor, "R *event"], Bool[Tensor, "R *event"]], Shaped[Tensor, "R *event"]]
"""Completed rows, and what of them was observed, -> the next ones."""


class GibbsChains(nn.Module):
    r"""K imputations of each training row, and conditionals ``q_j(x_j | x_\j)`` that move them (variational Gibbs).

    A chain begins at values of other rows, drawn element by element from what was observed. An update draws one missing
    element of each row, chosen at random, from ``q_j`` at all others as they are now; no step is refused. Draws stay
    within what was observed of their element, so that chains do not run away while conditionals are still wrong.
    The states of training rows are remembered; all others begin anew, with :data:`SWEEPS` updates for each missing
    element.

    Args:
        event: shape of an example.
        copies: K.
        conditionals: of elements of the flat rows; None where something else moves the chains.

    Raises:
        ValueError: fewer than 1 copy.

    Reference: Simkus, Rhodes and Gutmann, *Variational Gibbs Inference for Statistical Model Estimation from Incomplete
    Data*, JMLR 2023.

    Example:
        >>> chains = GibbsChains((2,), 3, ConditionalRegressions(2, [8]))
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
        >>> chains.start_from(x, x > 0)
        >>> chains.moved(Batch.of(x, x > 0), updates=5)[:, 0].tolist()   # in the hole all that was observed is 2
        [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    """

    per_example: ClassVar[tuple[str, ...]] = ("states",)
    states: Float[Tensor, "N K *event"]
    quantiles: Float[Tensor, "Q *event"]

    def __init__(self, event: tuple[int, ...], copies: int = 5, conditionals: ConditionalRegressions | None = None):
        super().__init__()
        check_counts("GibbsChains", copies=copies)
        self.copies = copies
        self.conditionals = conditionals
        self.register_buffer("states", torch.empty(0, copies, *event))
        self.register_buffer("quantiles", torch.zeros(QUANTILES, *event))

    def remember(self, rows: int, prior: Any) -> None:
        """Keep the chains of ``rows`` training examples; none has begun yet."""
        shape = rows, *self.states.shape[1:]
        self.states = torch.full(shape, torch.nan, device=self.states.device, dtype=self.states.dtype)

    @torch.no_grad()
    def start_from(self, x: Shaped[Tensor, "N *event"], mask: Bool[Tensor, "N *event"]) -> None:
        """Know what was observed of each element; one of which nothing was is 0."""
        seen = torch.where(mask, x.double(), torch.nan).flatten(1)
        levels = torch.linspace(0, 1, QUANTILES, dtype=seen.dtype, device=seen.device)
        found = torch.stack([torch.nanquantile(each, levels, interpolation="nearest") for each in seen.unbind(1)], 1)
        self.quantiles.copy_(found.nan_to_num(0.0).reshape(self.quantiles.shape))

    @torch.no_grad()
    def begun(self, batch: Batch) -> Shaped[Tensor, "K B *event"]:
        """The states of a batch where they are known, and where not the first ones of new chains."""
        assert batch.mask is not None
        size = self.copies, *batch.x.shape
        picked = torch.randint(QUANTILES, size, device=batch.x.device)
        fresh = self.quantiles.to(batch.x).flatten(1).gather(0, picked.flatten(2).flatten(0, 1)).reshape(size)
        return torch.where(batch.mask, batch.x, torch.where(self._known(batch), self._states(batch), fresh))

    @torch.no_grad()
    def moved(self, batch: Batch, updates: int, kernel: Kernel | None = None) -> Shaped[Tensor, "K B *event"]:
        """The states of a batch after so many updates; of rows that are not remembered, after enough of them.

        Args:
            batch: with a mask.
            updates: of chains that are known.
            kernel: that moves them; None = the conditionals.
        """
        assert batch.mask is not None
        x, mask = self.begun(batch), batch.mask.expand(self.copies, *batch.x.shape).flatten(0, 1)
        new = 0 if bool(self._known(batch).all()) else SWEEPS * int((~batch.mask).flatten(1).sum(1).max())
        x = x.flatten(0, 1)
        for _ in range(max(updates, new)):
            x = (kernel or self.redrawn)(x, mask)
        return x.unflatten(0, (self.copies, -1))

    @torch.no_grad()
    def redrawn(self, x: Shaped[Tensor, "R *event"], mask: Bool[Tensor, "R *event"]) -> Shaped[Tensor, "R *event"]:
        """With one missing element of each row drawn from its conditional, and within what was observed of it."""
        low, high = self.quantiles[[0, -1]].to(x)
        return torch.where(mask, x, self.with_element(x, mask)[0].clamp(low, high))

    def with_element(
        self, x: Shaped[Tensor, "R *event"], mask: Bool[Tensor, "R *event"]
    ) -> tuple[Shaped[Tensor, "R *event"], PerDatum]:
        """The same within no limits, with its path gradient; and the entropy of the conditional, 0 of whole rows."""
        flat, seen = x.flatten(1), mask.flatten(1)
        element = _chosen(~seen)
        law = self._conditionals(flat, element)
        drawn = law.mean + law.log_scale.exp() * torch.randn_like(law.mean)
        here = nn.functional.one_hot(element, flat.shape[1]).bool() & ~seen
        filled = torch.where(here, drawn.unsqueeze(1), flat)
        entropy = law.log_scale + 0.5 * (LOG_2PI + 1)
        return filled.reshape(x.shape), torch.where(here.any(1), entropy, 0 * entropy)

    def log_prob_of_observed(self, x: Shaped[Tensor, "R *event"], mask: Bool[Tensor, "R *event"]) -> PerDatum:
        r"""``log q_j(x_j | x_\j)`` of one observed element of each row, chosen at random; 0 where nothing was."""
        flat, seen = x.flatten(1), mask.flatten(1)
        element = _chosen(seen)
        law = self._conditionals(flat, element)
        off = (flat.gather(1, element.unsqueeze(1)).squeeze(1) - law.mean) / law.log_scale.exp()
        level = -0.5 * off.square() - law.log_scale - 0.5 * math.log(2 * math.pi)
        return torch.where(seen.any(1), level, 0 * level)

    def _conditionals(self, x: Float[Tensor, "R E"], element: Int[Tensor, " R"]) -> Any:
        if self.conditionals is None:
            raise ValueError("GibbsChains: expected conditionals, got None: something else moves these chains.")
        return self.conditionals(x, element)

    def _known(self, batch: Batch) -> Bool[Tensor, "K B *event"]:
        """Where a state is remembered, or nothing is missing."""
        states = self._states(batch)
        assert batch.mask is not None
        return states.isfinite() | batch.mask

    def _states(self, batch: Batch) -> Shaped[Tensor, "K B *event"]:
        """Those that are remembered; NaN of rows that are not."""
        if not len(self.states):
            return torch.full((self.copies, *batch.x.shape), torch.nan, device=batch.x.device)
        found = self.states[batch.index.clamp(min=0)].transpose(0, 1)
        there = (batch.index >= 0).reshape(-1, *[1] * (batch.x.ndim - 1))
        return torch.where(there, found, torch.nan)


def _chosen(among: Bool[Tensor, "R E"]) -> Int[Tensor, " R"]:
    """One of these elements of each row, at random; any of a row without."""
    return torch.multinomial(among.float() + 1e-30, 1).squeeze(1)
