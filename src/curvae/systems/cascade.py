"""Two autoencoders in a cascade: the second models the codes of the first, and what the first leaves unexplained."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from curvae.objectives import Bound
from curvae.posteriors import Posterior, representative_point
from curvae.systems.base import LatentSystem
from curvae.systems.device import batch_to_system, evaluating
from curvae.systems.stages import Prepared, Stage
from curvae.typing import Batch, Context, DataSpec, Table, Tables

ROWS = 4096
"""At a time."""
FIRST = ("model", "inference")
SMALLEST = 1e-12
"""Added to a mean square before its logarithm."""


class CodeRows(NamedTuple):
    """Codes of a table, as a table."""

    x: Float[Tensor, "N C"]
    mask: Tensor | None = None
    label: Tensor | None = None
    context: Context | None = None

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.x)

    def __len__(self) -> int:
        return len(self.x)


class CodeTables(NamedTuple):
    """What the second autoencoder is trained and judged on."""

    train: CodeRows
    validation: CodeRows


class CascadeSystem(LatentSystem):
    """A latent-variable model of x, and one of its codes ``c(x)``; that of x is what is evaluated.

    ``c(x) = (E[z | x], log of the mean square of x - E[x | z] by channel)``, of data that are no numbers
    ``-log p(x | z)`` an element in place of squares, with mean 0 over training rows, and the
    residuals with variance 1; latents keep the scale that their prior gives them, so that what is not used counts for
    little. z is the representative point of q(z | x). The prior of the second model is a mixture, by which x is of a
    cluster.

    Args:
        first: of x.
        second: of codes, as many numbers as ``residuals`` more than first has latents.
        residuals: channels of x, each with a mean square of its own; 0 of data that are no numbers.
        stages: phases of training.
    """

    def __init__(self, first: LatentSystem, second: LatentSystem, residuals: int, stages: tuple[Stage, ...]):
        super().__init__(first.model, first.inference, first.objective, first.samples, stages)
        self.second, self.residuals, self.numbers = second, max(1, residuals), residuals > 0
        size = first.model.prior.size + self.residuals
        self.register_buffer("code_mean", torch.zeros(size))
        self.register_buffer("code_scale", torch.ones(size))

    @property
    def cluster_counts(self) -> dict[str, int]:
        """Those of the second model."""
        return self.second.cluster_counts

    def cluster_probabilities(
        self, batch: Batch, posterior: Posterior, generator: Generator | None = None
    ) -> Float[Tensor, "B K C"]:
        """``q(y | c(x))`` of the second model."""
        codes = Batch.of(self.codes(batch, posterior))
        return self.second.cluster_probabilities(codes, self.second.parts().infer(codes).posterior, generator)

    def codes(self, batch: Batch, posterior: Posterior | None = None) -> Float[Tensor, "B C"]:
        """c(x), without a gradient."""
        return (self._raw_codes(batch, posterior) - self._mean) / self._scale

    @property
    def _mean(self) -> Tensor:
        return self.get_buffer("code_mean")

    @property
    def _scale(self) -> Tensor:
        return self.get_buffer("code_scale")

    @torch.no_grad()
    def _raw_codes(self, batch: Batch, posterior: Posterior | None = None) -> Float[Tensor, "B C"]:
        q = self.parts().infer(batch).posterior if posterior is None else posterior
        z, model = representative_point(q), self.model.given(batch.context)
        seen = torch.ones(batch.x.shape, device=z.device) if batch.mask is None else batch.mask.to(z)
        if self.numbers:
            left = seen * (batch.x - model.mean(z).reshape(batch.x.shape)).square()
            sums = [part.reshape(len(z), self.residuals, -1).sum(-1) for part in (left, seen)]
            unexplained = (sums[0] / sums[1].clamp(min=1) + SMALLEST).log()
        else:
            log_prob = model.log_likelihood(batch.x, z.unsqueeze(0), batch.mask)[0]
            unexplained = -(log_prob / seen.flatten(1).sum(1).clamp(min=1)).unsqueeze(1)
        return torch.cat([z, unexplained.to(z)], 1)

    @torch.no_grad()
    def code_table(self, table: Table) -> CodeRows:
        """The codes of a table's rows."""
        rows = Batch.of(table.x, table.mask, table.context)
        parts = torch.arange(len(table)).split(ROWS)
        with evaluating(self):
            return CodeRows(torch.cat([self.codes(batch_to_system(self, rows.take(part))) for part in parts]))

    @torch.no_grad()
    def standardize_codes(self, table: Table) -> None:
        """From here on codes of these rows have mean 0, and their residuals variance 1; latents keep their scale."""
        self._mean.zero_()
        self._scale.fill_(1)
        codes = self.code_table(table).x.double()
        self._mean.copy_(codes.mean(0))
        self._scale[-self.residuals :] = codes[:, -self.residuals :].std(0).clamp(min=1e-6).to(self._scale)


@dataclass(frozen=True)
class StartOnCodes:
    """The second model starts on the codes of the first as it is now.

    Args:
        start: how a system starts.
    """

    start: Prepared

    def __call__(self, system: CascadeSystem, data: Tables) -> None:
        system.standardize_codes(data.train)
        self.start(system.second, CodeTables(system.code_table(data.train), system.code_table(data.validation)))


def code_bound(system: CascadeSystem, batch: Batch) -> Bound:
    """The second model's bound of log p(c(x)) is maximized, the first's of log p(x) reported."""
    with torch.no_grad():
        first = system.bound(batch)
    return Bound(first.value, system.second.bound(Batch.of(system.codes(batch))).surrogate)


def joint_bound(system: CascadeSystem, batch: Batch) -> Bound:
    """The sum of both is maximized, the first's reported; no gradient of the second reaches the first."""
    first, second = system.bound(batch), system.second.bound(Batch.of(system.codes(batch)))
    return Bound(first.value, first.surrogate + second.surrogate, first.info)


def channels_of(spec: DataSpec) -> int:
    """Channels of pictures (C, H, W); 1 of other numbers, 0 of categories and columns of several kinds."""
    if spec.support in ("category", "mixed"):
        return 0
    return spec.event[0] if len(spec.event) == 3 else 1
