"""Whether the decoder tells latents apart: the rank of its Jacobian, and its smallest slope, at codes of the data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.curvature.routes.decoder_jacobians import jacobian
from curvae.curvature.routes.differentiable import decoding
from curvae.data import ArrayTable
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.formatting import format_number
from curvae.evaluation.metric import Finding, Measured, Section, Subject
from curvae.model import LatentVariableModel
from curvae.posteriors import representative_point
from curvae.systems import HasModel, System
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

COUNT = 100
"""Most codes."""
NUMBERS = 2**23
"""Of all Jacobians together, at most; where one alone has more, nothing is said."""


class SingularValues(NamedTuple):
    """Of the decoder at N codes."""

    decoder: Float[Tensor, "N D"]
    """Singular values of ``d eta / dz``, the largest first; 0 beyond P of them."""
    law: Float[Tensor, "N D"]
    """Of ``R' d eta / dz``, R R' the information of x about eta."""
    rank: Float[Tensor, " N"]
    """Number of those of the decoder that are not 0 to rounding."""


@dataclass(frozen=True)
class Identifiability:
    """Rank of ``d eta / dz`` and its smallest singular value, at the codes of the first 100 rows.

    Where the rank is below D, or a singular value next to 0, latents can move without moving the law of x: the
    posterior along that direction is the prior. In units of the noise, ``s`` is the smallest singular value of
    ``R' d eta / dz`` with the likelihood's information ``R R'``: the Gauss-Newton precision of the posterior along that
    direction is the prior's and ``s^2``.

    Example:
        >>> from curvae.systems import identifiable_vae
        >>> from curvae.typing import DataSpec
        >>> system = identifiable_vae(DataSpec((8,)), latent=2, hidden=8)
        >>> decoder_singular_values(system.parts().model, Batch.of(torch.zeros(5, 8)), torch.randn(5, 2)).rank.tolist()
        [2, 2, 2, 2, 2]
    """

    name = "identifiability"

    def check(self, system: System) -> None:
        """Of any system; one without continuous latents has none."""

    def compute(self, subject: Subject) -> Measured:
        settings = subject.settings
        found = _slopes(subject.system, subject.table, settings.limit, settings.seed)
        return Measured(None if found is None else _told(found))


def decoder_singular_values(model: LatentVariableModel, batch: Batch, z: Float[Tensor, "N D"]) -> SingularValues:
    """Singular values at these codes, in double precision from derivatives in that of z; NaN where one is not finite.

    Raises:
        ValueError: a decoder without derivatives.
    """
    eta, rows = jacobian(decoding(model, batch.x, z), z)
    law = model.likelihood.root(eta.unsqueeze(1), rows)
    decoder, seen = (_singular(each) for each in (rows, law))
    rounding = torch.finfo(z.dtype).eps * max(rows.shape[1:])
    return SingularValues(decoder, seen, (decoder > rounding * decoder[:, :1]).sum(1))


def _singular(rows: Float[Tensor, "N D P"]) -> Float[Tensor, "N D"]:
    finite = rows.isfinite().flatten(1).all(1)[:, None]
    values = torch.linalg.svdvals(torch.where(finite.unsqueeze(-1), rows, 0).double())
    return torch.where(finite, nn.functional.pad(values, (0, max(0, rows.shape[1] - values.shape[1]))), torch.nan)


def _slopes(system: System, table: ArrayTable, limit: int | None, seed: int) -> SingularValues | None:
    """Those that are finite; None without a model of continuous latents or without derivatives, or of too many."""
    if not isinstance(system, HasModel) or not (latent := system.parts()).model.prior.continuous:
        return None
    count = min(COUNT, len(table) if limit is None else limit, len(table), NUMBERS // _numbers(latent.model))
    if count < 1:
        return None
    with seeded_evaluation(system, seed):
        batch = batch_to_system(system, table.batch(torch.arange(count)))
        codes = representative_point(latent.infer(batch).posterior)
        parts = torch.arange(count).split(max(1, NUMBERS // 8 // _numbers(latent.model)))
        try:
            each = [_of_part(latent.model, batch.take(part), codes[part]) for part in parts]
        except ValueError:  # a decoder without derivatives
            return None
    found = [torch.cat(values).cpu() for values in zip(*each, strict=True)]
    known = found[0].isfinite().all(1) & found[1].isfinite().all(1)
    return SingularValues(*(values[known] for values in found)) if bool(known.any()) else None


def _of_part(model: LatentVariableModel, batch: Batch, z: Float[Tensor, "N D"]) -> SingularValues:
    return decoder_singular_values(model.given(batch.context), batch, z)


def _numbers(model: LatentVariableModel) -> int:
    return model.prior.size * model.likelihood.size


def _told(found: SingularValues) -> Finding:
    count, size = found.decoder.shape
    least, law, rank = found.decoder[:, -1], found.law[:, -1], found.rank
    short = int((rank < size).sum())
    values = {
        "latents": size,
        "codes": count,
        "rank": int(rank.min()),
        "short": short,
        "smallest": float(least.min()),
        "median": float(least.median()),
        "law": float(law.median()),
    }
    at = f"at each of {count:,} codes" if not short else f"at the worst of {count:,} codes, below {size} at {short:,}"
    rows = (
        ("rank of d eta / dz", f"{values['rank']} of {size} {at}"),
        (
            "smallest singular value",
            f"{values['smallest']:.3g} (median {values['median']:.3g}; {values['law']:.3g} in units of the noise)",
        ),
    )
    return Finding(values, rows, tuple(_warnings(values)), _section(values, at))


def _warnings(values: dict[str, float]) -> Iterator[str]:
    if values["short"]:
        yield (
            f"The decoder does not tell all latents apart: d eta / dz has a rank below {values['latents']} at "
            f"{values['short']:,} of {values['codes']:,} codes; along what it does not see, posteriors are the prior."
        )


def _section(values: dict[str, float], at: str) -> Section:
    described = (
        (
            "Rank of dη/dz",
            f"{values['rank']} of {values['latents']}",
            "Directions in which latents move what is decoded.",
        ),
        (
            "Smallest singular value",
            format_number(values["smallest"], figures=3),
            "The least slope of η at any of these codes.",
        ),
        ("The same, median", format_number(values["median"], figures=3), "Over the codes."),
        (
            "In units of the noise",
            format_number(values["law"], figures=3),
            "Median; along the direction that is seen least the posterior’s precision is the prior’s and its square.",
        ),
    )
    note = f"{at[0].upper()}{at[1:]}: where the rank is below the number of latents, some of them are told by no data."
    return Section(
        "identifiability", "Whether latents are told apart", ("Quantity", "Value", "What it is"), described, note
    )
