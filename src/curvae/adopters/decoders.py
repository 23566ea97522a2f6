"""A decoder alone: posteriors are searched for, or an encoder is fitted to it."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from curvae.adopters.candidate import Candidate, fit_noise, likelihood_of, system_of
from curvae.adopters.faithful import AdoptionError, SourceModel
from curvae.adopters.pairs import TRIED, are_probabilities, decoded, flat_decoder
from curvae.adopters.reading import output_of
from curvae.data import Data
from curvae.likelihoods import Likelihood
from curvae.objectives import Bound
from curvae.systems import LatentSystem, Stage
from curvae.systems.adopted import SEARCH
from curvae.systems.parts import standard_encoder
from curvae.typing import Batch


def adopt_decoder(
    decoder: nn.Module,
    data: Data,
    *,
    latent: int | Sequence[int] | None = None,
    likelihood: str | Likelihood | None = None,
    outputs: str | None = None,
    noise: float | None = None,
    encoder: str = "search",
    search: int = SEARCH,
    hidden: int = 256,
    depth: int = 2,
) -> Candidate:
    """A decoder alone, under N(0, I): posteriors are searched for from the mean of the prior, or an encoder is fitted.

    Args:
        decoder: from latents to the likelihood's parameters.
        data: rows in the units of the decoder.
        latent: number of latents, or the shape in which the decoder takes those of a row.
        likelihood: as with a pair.
        outputs: as with a pair.
        noise: standard deviation of a Gaussian; None = fitted to training rows in closed form.
        encoder: "search", or "fit": a new encoder is then trained for this decoder, which stays as it is; arguments of
            training of :func:`curvae.fit` say how.
        search: Newton steps at most.
        hidden: width of the layers of a new encoder.
        depth: their number.

    Raises:
        AdoptionError: a decoder for other rows.
        ValueError: no number of latents, or no such word for encoder.
    """
    if latent is None:
        raise ValueError("latent: expected the number of latents that the decoder takes, got None.")
    if encoder not in ("search", "fit"):
        raise ValueError(f"encoder: expected search or fit; got {encoder!r}. Of an encoder pass the pair.")
    shape = (latent,) if isinstance(latent, int) else tuple(latent)
    decoder, size = copy.deepcopy(decoder).eval(), torch.Size(shape).numel()
    law = likelihood_of(likelihood, data.spec, noise)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z = torch.randn(TRIED, *shape)
        out = decoded(decoder, z)
    if out.flatten(1).shape[1] != law.outputs:
        raise AdoptionError(
            f"decoder: expected {law.outputs} values a row for {type(law).__name__}, got {out.flatten(1).shape[1]}."
        )
    probabilities = are_probabilities(out, law, outputs)
    latents = None if len(shape) == 1 else shape
    flat = flat_decoder(decoder, latents, probabilities, z[:4])
    system = system_of(data.spec, size, {"decoder": flat, "likelihood": law}, search=search)
    fit_noise(system, data)
    if encoder == "fit":
        parts = {"decoder": flat, "likelihood": law, "encoder": standard_encoder(data.spec, size, hidden, depth)}
        system = system_of(data.spec, size, parts)
        system.restage(Stage("encoder", trained=("inference",), bound=bound_of_kept_decoder))
    double = copy.deepcopy(decoder).double()

    def mean(z: Tensor) -> Tensor:
        found = output_of(double(z if latents is None else z.reshape(len(z), *latents))).flatten(1)
        return found if probabilities else copy.deepcopy(law).double().mean(found).flatten(1)

    return Candidate(system, SourceModel(mean=mean), "a decoder")


def bound_of_kept_decoder(system: LatentSystem, batch: Batch) -> Bound:
    """The bound under the decoder as it is: in evaluation mode, whatever mode the encoder is in."""
    with system.model.evaluating():
        return system.bound(batch)
