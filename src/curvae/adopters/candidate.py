"""What an adapter makes of a trained model, and the parts that several of them share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from curvae.adopters.faithful import AdoptionError, SourceModel, Suspect
from curvae.adopters.recipes import with_recipe
from curvae.data import Data
from curvae.data.transforms import Identity, Scale, Standardization, Transform
from curvae.inference import m_step
from curvae.likelihoods import Bernoulli, Gaussian, Likelihood, likelihood_for
from curvae.systems import LatentSystem, adopted
from curvae.systems.device import evaluating
from curvae.typing import Batch, DataSpec

FITTED_ON = 512
"""Training rows by which a noise is fitted that the source does not hold."""


class Candidate(NamedTuple):
    """A trained model as a system of ours, and what it is to be compared with."""

    system: LatentSystem
    source: SourceModel
    told: str
    """What it was, in words."""
    suspects: Iterable[Suspect] = ()
    as_source: Callable[[LatentSystem], None] | None = None
    """What a copy is given that is compared, and the system is not: a fault of the source."""


def as_pixels(data: Data) -> Transform:
    """Grey levels to [0, 1]; anything else as it is."""
    peak = data.transform.peak
    return Identity() if peak in (None, 1.0) else Scale(1 / peak)


def as_signed_pixels(data: Data) -> Transform:
    """Grey levels to [-1, 1]; anything else as it is."""
    peak = data.transform.peak
    if peak in (None, 1.0):
        return Identity()
    half = torch.full(data.spec.event, peak / 2, dtype=torch.float64)
    return Standardization(half, half.clone())


def under(data: Data, transform: Transform) -> Data:
    """The same rows under another transform."""
    tables = {name: replace(getattr(data, name), transform=transform) for name in ("train", "validation", "test")}
    schema = replace(data.schema, unit=transform.unit)
    return replace(data, **tables, transform=transform, recipe={**data.recipe, "transform": "own"}, schema=schema)


def rows_for(data: Data, count: int) -> Batch:
    """Training rows, evenly spread, as a model sees them."""
    rows = torch.linspace(0, len(data.train) - 1, min(len(data.train), count)).round().long()
    found = data.train.sample.batch(rows.clamp(max=len(data.train.sample) - 1))
    return Batch.of(found.x, found.mask, found.context)


def system_of(spec: DataSpec, latent: int, parts: Mapping[str, nn.Module | None], **options: Any) -> LatentSystem:
    """The system of these networks, in evaluation mode, each with its recipe where a file can tell of it."""
    known = {name: None if part is None else with_recipe(part.float().eval()) for name, part in parts.items()}
    return adopted(spec, latent, **known, **options).eval()  # pyright: ignore[reportArgumentType]


def likelihood_of(word: str | Likelihood | None, spec: DataSpec, noise: float | None) -> Likelihood:
    """The likelihood that somebody asks for.

    Args:
        word: "gaussian", "bernoulli" (also of grey levels in [0, 1]), another word of those of a system, or an object;
            None = by the support of the data.
        spec: of the data.
        noise: standard deviation of a Gaussian; None = to be fitted.

    Raises:
        ValueError: no such word, or a noise of another likelihood.
    """
    word = {"real": "gaussian", "binary": "bernoulli"}.get(spec.support, word) if word is None else word
    if noise is not None and word != "gaussian":
        raise ValueError(f"noise: expected none with the likelihood {word!r}, got {noise}; it is that of a Gaussian.")
    if isinstance(word, Likelihood):
        return word
    if word == "bernoulli":
        return Bernoulli(spec.event)
    if word == "gaussian":
        return Gaussian(spec.event, learn="shared") if noise is None else Gaussian(spec.event, scale=noise)
    if word is None:
        raise ValueError(f"likelihood: expected a word or an object for {spec.support} data, got None.")
    return likelihood_for(word, spec)


def fit_noise(system: LatentSystem, data: Data) -> None:
    """Parameters of the likelihood's own that the source does not hold, in closed form given its posteriors."""
    with evaluating(system), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        m_step(system.model, system.inference, rows_for(data, FITTED_ON))


def as_event(spec: DataSpec, event: Sequence[int], who: str) -> tuple[int, ...]:
    """The shape in which a model takes a row, where it differs from that of the data in sizes of 1 alone.

    Raises:
        AdoptionError: it is of other sizes, or in another order.
    """
    ours, theirs = spec.event, tuple(event)
    if [size for size in ours if size > 1] == [size for size in theirs if size > 1]:
        return theirs
    if len(theirs) == 1 and theirs[0] == torch.Size(ours).numel():
        return theirs
    order = ": is it the order of channels, first or last?" if sorted(ours) == sorted(theirs) else "."
    raise AdoptionError(f"{who}: expected rows of shape {theirs}, got {ours}{order}")
