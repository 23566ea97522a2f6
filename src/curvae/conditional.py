"""Models of rows given what is known of them: p(x, z | c) = p(z) p(x | decoder(z, c), c)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.likelihoods import Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import run_network
from curvae.priors import Prior
from curvae.typing import Context, Given

ROWS = 1000
"""Training rows whose context is kept, for rows that the model makes up."""


class ConditionalModel(LatentVariableModel):
    """A model that knows no p(x, z) before it is given the context of a batch: ``model.given(batch.context)``.

    What is known enters eta alone, so that all that is true of a likelihood p(x | eta) stays true: covariates c are a
    second input of the decoder, ``decoder(z, c)``, and :meth:`curvae.likelihoods.Likelihood.placed` puts the logarithm
    of an exposure, or known errors, beside what comes out. z does not depend on c under the prior.

    Args:
        prior: p(z).
        decoder: as in :class:`LatentVariableModel`; with covariates called as ``decoder(z, covariates)``.
        likelihood: p(x | eta), which takes what is given.
        given: what that is.

    Example:
        >>> from curvae.likelihoods import Poisson
        >>> from curvae.priors import StandardNormal
        >>> model = ConditionalModel(StandardNormal(1), torch.nn.Linear(1, 2), Poisson(2), Given(exposure=True))
        >>> here, z = model.given(Context(exposure=torch.tensor([1.0, 10.0]))), torch.zeros(2, 1)
        >>> mean = here.mean(z)
        >>> bool(torch.allclose(mean[1], 10 * mean[0]))
        True
    """

    known: Tensor

    def __init__(self, prior: Prior, decoder: nn.Module, likelihood: Likelihood, given: Given):
        super().__init__(prior, decoder, likelihood)
        self.what = given
        self.sizes = _sizes(given, likelihood)
        self.register_buffer("known", torch.zeros(ROWS, sum(self.sizes)))

    @property
    def by_latents_alone(self) -> bool:
        return False

    @property
    def outputs(self) -> int:
        return self.likelihood.outputs

    def given(self, context: Context | None) -> "GivenModel":
        """
        Raises:
            ValueError: it lacks something that the model is given.
        """
        return GivenModel(self, self._whole(context))

    def reference(self) -> "GivenModel":
        """Given the mean of what was known of the training rows; of errors the root mean square."""
        errors, exposure, covariates = self.known.split(self.sizes, 1)
        parts = (errors.square().mean(0, True).sqrt(), exposure.log().mean(0, True).exp(), covariates.mean(0, True))
        return GivenModel(self, self._context(torch.cat(parts, 1)), everywhere=True)

    def drawn(self, n: int, generator: torch.Generator | None = None) -> Context:
        """What was known of n training rows, drawn with replacement."""
        device = self.known.device if generator is None else generator.device
        rows = torch.randint(len(self.known), (n,), generator=generator, device=device)
        return self._context(self.known[rows.to(self.known.device)])

    @torch.no_grad()
    def remember(self, context: Context) -> None:
        """Keep what is known of training rows, evenly spread."""
        rows = torch.linspace(0, len(context) - 1, len(self.known), dtype=torch.float64).round().long()
        whole = self._whole(context)[rows]
        parts = (whole.errors, whole.exposure, whole.covariates)
        self.known.copy_(torch.cat([part.reshape(len(rows), -1) for part in parts if part is not None], 1))

    def decode(self, z: Float[Tensor, "*L D"], x: Tensor | None = None, precise: bool = False) -> Float[Tensor, "*L P"]:
        raise ValueError(
            f"decode: this model is given {self.what.said} of each row, and was asked without; take "
            "model.given(batch.context), or an evaluation that knows of it."
        )

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` draws (x, z), each given what was known of a training row."""
        return self.given(self.drawn(n, generator)).sample(n, generator)

    def _whole(self, context: Context | None) -> Context:
        """What is needed of a context, all of it there."""
        found = Context() if context is None else context
        names = {"errors": self.what.errors, "exposure": self.what.exposure, "covariates": self.what.covariates}
        needed = {name: getattr(found, name) for name, size in names.items() if size}
        if lacking := [name for name, part in needed.items() if part is None]:
            raise ValueError(
                f"context: this model is given {self.what.said} of each row; got none of {', '.join(lacking)}."
            )
        return Context(**needed)

    def _context(self, rows: Float[Tensor, "N W"]) -> Context:
        errors, exposure, covariates = rows.split(self.sizes, 1)
        return Context(
            errors.reshape(-1, *self.likelihood.event) if self.what.errors else None,
            exposure.squeeze(1) if self.what.exposure else None,
            covariates if self.what.covariates else None,
        )


class GivenModel(LatentVariableModel):
    """A conditional model for one batch alone, given what is known of its rows.

    Args:
        model: the model.
        context: of the rows; of a single one that stands for all where ``everywhere``.
        everywhere: see there.
    """

    def __init__(self, model: ConditionalModel, context: Context, everywhere: bool = False):
        super().__init__(model.prior, model.decoder, model.likelihood)
        self._whole = (model,)  # no module of ours: its parameters are here already
        self._given = context
        self._everywhere = everywhere

    @property
    def by_latents_alone(self) -> bool:
        return False

    @property
    def outputs(self) -> int:
        return self.likelihood.outputs

    def given(self, context: Context | None) -> "GivenModel":
        """The same model given what is known of other rows; everywhere the same where it was."""
        return self if self._everywhere else self._whole[0].given(context)

    def reference(self) -> "GivenModel":
        return self._whole[0].reference()

    def of_first(self, count: int) -> "GivenModel":
        return self if self._everywhere else GivenModel(self._whole[0], self._given[[0] * count])

    def decode(self, z: Float[Tensor, "*L D"], x: Tensor | None = None, precise: bool = False) -> Float[Tensor, "*L P"]:
        """
        Raises:
            ValueError: z is of another number of rows than the context; otherwise as :class:`LatentVariableModel`.
        """
        context, rows = self._given, z.reshape(-1, z.shape[-1])
        if not self._everywhere and z.shape[-2] != len(context):
            raise ValueError(f"decode: expected z of {len(context)} rows, as the context, got {z.shape[-2]}.")
        others: Any = ()
        if context.covariates is not None:
            each = context.covariates.to(z).expand(*z.shape[:-1], -1)
            others = (each.reshape(-1, each.shape[-1]),)
        out = self._fitting(run_network(self.decoder, rows, *others, precise=precise).flatten(1))
        return self.likelihood.placed(out.unflatten(0, z.shape[:-1]), context)


def _sizes(given: Given, likelihood: Likelihood) -> list[int]:
    """Numbers of each part of a context."""
    return [torch.Size(likelihood.event).numel() * given.errors, int(given.exposure), given.covariates]
