"""What a model is given of each row: which parts of a context it needs, and what they were of training rows."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from curvae.typing import Conditions, Context

ROWS = 1000
"""Training rows whose context is kept, for rows that a model makes up."""


class Conditioning(nn.Module):
    """The part of a model that knows what it is given of each row, and keeps that of some training rows.

    Args:
        conditions: what that is.
        event: shape of one example.

    Example:
        >>> conditioning = Conditioning(Conditions(exposure=True), (3,))
        >>> conditioning.remember(Context(exposure=torch.tensor([1.0, 4.0])))
        >>> f"{conditioning.typical().exposure.item():.3f}", conditioning.drawn(5).exposure.shape
        ('2.000', torch.Size([5]))
    """

    known: Tensor

    def __init__(self, conditions: Conditions, event: tuple[int, ...]):
        super().__init__()
        self.conditions = conditions
        self.event = event
        self.sizes = [torch.Size(event).numel() * conditions.errors, int(conditions.exposure), conditions.covariates]
        self.register_buffer("known", torch.zeros(ROWS, sum(self.sizes)))

    def of(self, context: Context | None) -> Context:
        """What is needed of a context.

        Raises:
            ValueError: it lacks a part.
        """
        found, what = Context() if context is None else context, self.conditions
        names = {"errors": what.errors, "exposure": what.exposure, "covariates": what.covariates}
        needed = {name: getattr(found, name) for name, size in names.items() if size}
        if lacking := [name for name, part in needed.items() if part is None]:
            raise ValueError(f"context: this model is given {what.said} of each row; got none of {', '.join(lacking)}.")
        return Context(**needed)

    def typical(self) -> Context:
        """One row: the geometric mean of exposures, the mean of covariates, the root mean square of errors."""
        errors, exposure, covariates = self.known.split(self.sizes, 1)
        parts = (errors.square().mean(0, True).sqrt(), exposure.log().mean(0, True).exp(), covariates.mean(0, True))
        return self._context(torch.cat(parts, 1))

    def drawn(self, n: int, generator: Generator | None = None) -> Context:
        """What was known of n training rows, drawn with replacement."""
        device = self.known.device if generator is None else generator.device
        rows = torch.randint(len(self.known), (n,), generator=generator, device=device)
        return self._context(self.known[rows.to(self.known.device)])

    @torch.no_grad()
    def remember(self, context: Context) -> None:
        """Keep what is known of training rows, evenly spread."""
        rows = torch.linspace(0, len(context) - 1, len(self.known), dtype=torch.float64).round().long()
        whole = self.of(context)[rows]
        parts = (whole.errors, whole.exposure, whole.covariates)
        self.known.copy_(torch.cat([part.reshape(len(rows), -1) for part in parts if part is not None], 1))

    def _context(self, rows: Float[Tensor, "N W"]) -> Context:
        errors, exposure, covariates = rows.split(self.sizes, 1)
        return Context(
            errors.reshape(-1, *self.event) if self.conditions.errors else None,
            exposure.squeeze(1) if self.conditions.exposure else None,
            covariates if self.conditions.covariates else None,
        )
