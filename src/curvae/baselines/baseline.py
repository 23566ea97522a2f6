"""What a baseline is: a density of whole rows that was fitted in closed form, or the reason why there is none."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.memory import blocks
from curvae.typing import Context

NAMES = {
    "ppca": "PPCA",
    "factor_analysis": "factor analysis",
    "independent": "independent columns",
    "state_space": "linear state space",
    "none": "no baseline",
}
"""Of baselines, in words; "none" where a likelihood has none."""
VALUES = 2**22
"""Most numbers that scoring holds at a time."""


@runtime_checkable
class Density(Protocol):
    """A density of flat rows."""

    def log_prob(self, x: Float[Tensor, "B P"], mask: Shaped[Tensor, "B P"] | None = None) -> Float[Tensor, " B"]:
        """``log p(x)`` of the observed elements, nats."""
        ...


@runtime_checkable
class GivenDensity(Protocol):
    """A density of flat rows given what is known of them."""

    def log_prob_given(
        self, x: Float[Tensor, "B P"], context: Context, mask: Shaped[Tensor, "B P"] | None = None
    ) -> Float[Tensor, " B"]:
        """``log p(x | c)`` of the observed elements, nats."""
        ...


def label(name: str, latent: int | None = None) -> str:
    """What a baseline is called.

    >>> label("ppca", 2), label("ppca", 1), label("independent")
    ('PPCA, 2 latents', 'PPCA, 1 latent', 'independent columns')
    """
    size = "" if latent is None else f", {latent} latent{'' if latent == 1 else 's'}"
    return NAMES[name] + size


@dataclass(frozen=True, eq=False)
class Baseline:
    """A model to beat.

    Args:
        name: one of :data:`NAMES`.
        latent: number of its latent dimensions; None where it has none.
        density: the model; None where it is left out.
        note: why it is left out, or to which part of the data it was fitted, in words; "" = to all rows.
    """

    name: str
    latent: int | None = None
    density: Density | GivenDensity | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """Its name and number of latents."""
        return label(self.name, self.latent)

    def log_prob(
        self,
        x: Shaped[Tensor, "N *event"],
        mask: Shaped[Tensor, "N *event"] | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, " N"]:
        """``log p(x)`` of each row's observed elements in nats, float64, on the CPU; given what is known of it.

        Raises:
            ValueError: it is left out, or what it is given is missing.
        """
        if self.density is None:
            raise ValueError(f"{self.label}: {self.note}; there is no log p(x).")
        x, mask = x.cpu().flatten(1), None if mask is None else mask.cpu().flatten(1)
        size = max(1, VALUES // max(1, x.shape[1] + (self.latent or 0) ** 2))
        if isinstance(self.density, GivenDensity):
            if context is None:
                raise ValueError(f"{self.label}: expected what is known of each row, got none; pass its context.")
            known = context.map(lambda part: part.cpu().double())
            rows = [slice(begin, begin + size) for begin in range(0, len(x), size)]
            masks = [None if mask is None else mask[some] for some in rows]
            pairs = zip(rows, masks, strict=True)
            found = [self.density.log_prob_given(x[some].double(), known[some], seen) for some, seen in pairs]
        else:
            found = [self.density.log_prob(part.double(), seen) for part, seen in blocks(x, mask, size)]
        return torch.cat(found) if found else x.new_zeros(0, dtype=torch.float64)
